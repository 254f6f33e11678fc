"""The description of the interface is true: schemathesis asks what it allows; and Prometheus can read the numbers."""

from pathlib import Path

import pytest
from needs import needed
from serve_setup import Served


def test_answers_are_as_described(server: Served) -> None:
    schemathesis, hypothesis = needed("schemathesis"), needed("hypothesis")
    # how a hop goes with a window, and what is a video, no schema can say
    unsaid = [needed("schemathesis.specs.openapi.checks").positive_data_acceptance]
    schema = schemathesis.openapi.from_url(f"{server.url}openapi.json")
    asked = set[str]()
    for result in schema.get_all_operations():
        operation = result.ok()
        strategy = operation.as_strategy()

        @hypothesis.settings(
            max_examples=12,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=strategy)
        def ask(case: object) -> None:
            case.call_and_validate(base_url=server.url, excluded_checks=unsaid)  # type: ignore[attr-defined]

        ask()
        asked.add(operation.label)
    assert asked == {
        "GET /model",
        "GET /health",
        "GET /metrics",
        "POST /predict",
        "GET /jobs/{job}",
        "DELETE /jobs/{job}",
        "GET /jobs/{job}/result.{form}",
    }
    assert server.client.get("/health").json() == {"status": "ok"}


def test_prometheus_reads_the_numbers(server: Served, video: Path) -> None:
    parse = needed("prometheus_client.parser").text_string_to_metric_families
    before = _numbers(parse, server)
    job = server.ended(server.send(video, window="1"))
    after = _numbers(parse, server)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown["mmadfer_jobs_total", "done"] == 1
    assert grown["mmadfer_batch_size_sum", ""] == len(job["prediction"]["segments"])
    assert grown["mmadfer_video_seconds_total", ""] == pytest.approx(job["seconds_done"])
    assert grown["mmadfer_upload_bytes_total", ""] == video.stat().st_size
    assert after["mmadfer_jobs_now", "reading"] == after["mmadfer_jobs_now", "waiting"] == 0
    assert after["process_resident_memory_bytes", ""] > 0


def _numbers(parse: object, server: Served) -> dict[tuple[str, str], float]:
    response = server.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [one for family in parse(response.text) for one in family.samples]  # type: ignore[operator]
    return {(one.name, one.labels.get("state", "")): one.value for one in samples if "le" not in one.labels}
