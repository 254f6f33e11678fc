import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cluster as clusters
import needs
import pytest
from cluster import Cluster
from faulty import Bench, Faults
from slow import Slow

sys.path.append(str(Path(__file__).parents[1] / "train"))  # its toy training is this folder's, too

FOLDS = 5


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the cluster where it cannot be started; or fail (tests/needs.py)."""
    missing = clusters.missing()
    if not missing or needs.asked():
        return
    reason = f"no SLURM to start here, for want of {', '.join(missing)} (sudo make test-packages)"
    for item in items:
        if "_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason))


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    running = clusters.start()
    yield running
    running.close()


@pytest.fixture
def cluster(_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster that all tests of this folder share, without jobs and with all its nodes."""
    yield _cluster
    _cluster.reset()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 clips in five folds."""
    from setting import make_store

    return make_store(tmp_path_factory.mktemp("store") / "tiny.store", folds=FOLDS)


@pytest.fixture
def five(store: Path, tmp_path: Path) -> Callable[..., Path]:
    """five(epochs=2, save_every=2, ...) writes a configuration whose folds train in a second, after torch's import."""
    from setting import make_config

    def write(**train: object) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(make_config(store, FOLDS, **train).to_yaml())
        return path

    return write


@pytest.fixture
def slow(tmp_path: Path) -> Slow:
    """A Python whose mmadfer can be slowed down while it runs."""
    return Slow(tmp_path / "slow")


@pytest.fixture(scope="session")
def _bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("faults"))
    yield bench
    bench.close()


@pytest.fixture
def faults(cluster: Cluster, _bench: Bench, tmp_path: Path) -> Iterator[Faults]:
    """Launches runs, to be hurt and to be compared with one that was not."""
    made = Faults(cluster, _bench, tmp_path)
    yield made
    made.close()
