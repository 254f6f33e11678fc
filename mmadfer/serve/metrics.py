"""What a server counts, for Prometheus."""

from collections.abc import Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from mmadfer.version import VERSION

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server; any thread may count."""

    def __init__(self) -> None:
        disable_created_metrics()  # a time beside each number, which nobody asks for
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        build = Gauge("mmadfer_build", "The version that runs.", ["version"], registry=registry)
        build.labels(VERSION).set(1)
        requests = ("mmadfer_requests", "Answered requests by their way, method and status.")
        self.requests = Counter(*requests, ["route", "method", "status"], registry=registry)
        self.refused = Counter("mmadfer_refused", "Uploads refused, by status.", ["status"], registry=registry)
        self.uploaded = Counter("mmadfer_upload_bytes", "Bytes of uploads that were received.", registry=registry)
        self.ended = Counter("mmadfer_jobs", "Jobs that have ended, by how.", ["state"], registry=registry)
        self.seconds = Histogram(
            "mmadfer_job_seconds", "From the begin of reading to the end.", buckets=_SECONDS, registry=registry
        )
        self.video = Counter("mmadfer_video_seconds", "Seconds of video that were predicted.", registry=registry)
        self._sizes = Histogram(
            "mmadfer_batch_size", "Looks that were computed together.", buckets=_SIZES, registry=registry
        )
        self._times = Histogram("mmadfer_batch_seconds", "Time of a batch.", buckets=_SECONDS, registry=registry)

    def batch(self, size: int, seconds: float) -> None:
        """Count a batch."""
        self._sizes.observe(size)
        self._times.observe(seconds)

    def watch(self, name: str, told: str, counts: Mapping[str, Callable[[], float]]) -> None:
        """Show numbers that are there by themselves, such as those of jobs, by their state."""
        gauge = Gauge(name, told, ["state"], registry=self.registry)
        for state, count in counts.items():
            gauge.labels(state).set_function(count)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)
