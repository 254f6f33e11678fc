from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny

from mmadfer.data.loading.loader import Loader
from mmadfer.data.store.store import Header, Store, write_store


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "tiny.store"
    write_store(path, Header("tiny", tiny.LABELS, tiny.config().prepare), tiny.records())
    return path


@pytest.fixture(scope="module")
def store(path: Path) -> Iterator[Store]:
    with Store(path) as store:
        yield store


@pytest.fixture(scope="module")
def loader(store: Store) -> Iterator[Loader]:
    loader = Loader(store, tiny.config(), tiny.LABELS)
    yield loader
    loader.close()
