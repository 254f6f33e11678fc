import os
from pathlib import Path

import pytest
import torch
from setting import make_config, make_store

from mmadfer.config.schema import Config
from mmadfer.train.loop import train

os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("store") / "tiny.store")


@pytest.fixture(scope="session")
def config(store: Path) -> Config:
    return make_config(store)


@pytest.fixture(scope="session")
def straight(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fold trained in one go: two epochs of three steps."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run") / "fold-1"
    assert train(config, 1, folder).finished
    return folder
