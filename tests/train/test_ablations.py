"""Every row of the paper's tables, of joints and of windows trains, resumes bit for bit, and is the same in ONNX."""

import json
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from needs import needed
from setting import StopAt, make_config, weights

from mmadfer import load
from mmadfer.config import sweep
from mmadfer.config.schema import Config, parse
from mmadfer.evaluation.paper_tables import TABLES
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.mma_dfer import empty_model
from mmadfer.runtime.backends import ports
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.train.loop import train

ROWS = {
    f"{name}-{row}": (name, row)
    for paper in TABLES
    for name in paper.sweeps[:1]  # table 1 has the same rows for MAFW
    for row in sweep.read_table(sweep.find_table(name)).rows
} | {f"{name}-{row}": (name, row) for name in ("joint", "tss") for row in sweep.read_table(sweep.find_table(name)).rows}
FULL = (
    "joint-sum",
    "tss-plain",
    "table3-bottleneck",
    "table4-full",
    "table5-both",
    "table6-latent_128",
    "table7-updates_2",
)
"""The same as table2-mtm."""
AS_ELSEWHERE = {
    "table4-progressive_mtt": "table3-none",
    "table4-progressive_fb": "table2-mean",
    "table7-updates_0": "table4-mtt_fb",
}
TRAINED = [row for row in ROWS if row not in FULL and row not in AS_ELSEWHERE]
SAME_GRAPH = {
    "table1_dfew-px160": "table1_dfew-px112",
    "table1_dfew-px224": "table1_dfew-px112",
    "table6-latent_64": "table6-latent_256",
    "table6-latent_512": "table6-latent_256",
    "table7-updates_12": "table7-updates_4",
    "table7-updates_6": "table7-updates_4",
    "tss-windows_softmax": "tss-windows",
    "tss-tss": "tss-windows",
    "tss-tss_2": "tss-windows",
}
"""Rows whose graph is that of another, with other sizes or the same: an export takes most of a test's time."""
JMT = "joint-jmt"
"""At this learning rate it says the same of all clips: tests/export has its graphs."""
EXPORTED = [row for row in TRAINED if not row.startswith(JMT) and row not in SAME_GRAPH]
BEFORE_A_RELEASE = (
    *("table1_dfew-px112", "table2-ita_128", "table2-ita_256", "table2-mtm", "table6-latent_256"),
    *("table4-prompts", "table4-progressive", "table4-mtt_fb"),
)
"""Rows that are exported with MMADFER_MATRIX=all: their parts are in other rows, or in the models of tests/export."""
NOW = [row for row in EXPORTED if os.environ.get("MMADFER_MATRIX") == "all" or row not in BEFORE_A_RELEASE]


@pytest.fixture(scope="module")
def base(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of six clips, on encoders so small that a latent
    width of 512 is the largest part. The learning rate opens the gates in two steps."""
    tree = make_config(store, epochs=1, batch_size=6, save_every=100, lr=0.1).model_dump(mode="json")
    encoder = {"width": 16, "depth": 12, "heads": 2}
    tree["model"] |= {"frames": 2, "vision": encoder, "audio": encoder, "fusion": {"latent": 128}, "prompts": 6}
    path = tmp_path_factory.mktemp("base") / "tiny.yaml"
    path.write_text(json.dumps(tree))
    return path


def config_of(name: str, base: Path) -> Config:
    """A row's configuration, as `mmadfer launch sweep TABLE --base` makes it, less layers: an update needs one."""
    table, row = ROWS[name]
    tree = sweep.read(sweep.find_table(table), (), str(base))[1][row].model_dump()
    for encoder in ("vision", "audio"):
        tree["model"][encoder]["depth"] = max(2, int(row.split("_")[1])) if table == "table7" else 2
    return parse(tree, "the test")


@pytest.fixture(scope="module")
def fold_of(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Row -> its fold, trained in one go."""

    @cache
    def trained(row: str) -> Path:
        fold = tmp_path_factory.mktemp(row) / "fold-1"
        assert train(config_of(row, base), 1, fold).finished
        return fold

    return trained


def sizes(config: Config) -> Config:
    """Without what does not change the model."""
    return parse({**config.model_dump(), "name": "same"}, "the test")


def test_rows_that_are_left_out_are_in_another_table(base: Path) -> None:
    full = sizes(config_of("table2-mtm", base))
    for row in FULL:
        assert sizes(config_of(row, base)) == full
    assert len({sizes(config_of(row, base)).to_yaml() for row in TRAINED}) == len(TRAINED)
    for row, other in AS_ELSEWHERE.items():
        assert sizes(config_of(row, base)) == sizes(config_of(other, base))


@pytest.mark.parametrize("row", TRAINED)
def test_every_row_trains_and_resumes_exactly(
    row: str, base: Path, fold_of: Callable[[str], Path], tmp_path: Path
) -> None:
    config = config_of(row, base)
    assert not train(config, 1, tmp_path, stop=StopAt(0)).finished
    stopped = weights(tmp_path)
    assert train(config, 1, tmp_path, resume=True).finished
    assert weights(tmp_path) == weights(fold_of(row))
    assert weights(tmp_path) != stopped, "the second step learns"


def tensors(config: Config) -> set[str]:
    """Names of the model's tensors, those of all layers alike."""
    return {re.sub(r"\d+", "", name) for name in empty_model(config.model, 4).state_dict()}


def test_rows_that_are_not_exported_have_the_tensors_of_one_that_is(base: Path) -> None:
    for row, other in SAME_GRAPH.items():
        assert other in EXPORTED
        assert tensors(config_of(row, base)) == tensors(config_of(other, base))
    assert tensors(config_of("table2-mean", base)) != tensors(config_of("table2-mtm", base)), "names tell parts apart"


@pytest.mark.parametrize("row", NOW)
def test_every_row_computes_the_same_in_onnx(row: str, fold_of: Callable[[str], Path], tmp_path: Path) -> None:
    needed("onnxruntime")
    model = load(fold_of(row))
    gates = [p for name, p in model.named_parameters() if name.endswith("gate")]
    assert all(gate.abs() > 0.01 for gate in gates), "open, so that fusion and adapters are seen"
    served = OrtBackend(to_onnx(fold_of(row), tmp_path / "model.onnx"))
    rng, shape = np.random.default_rng(0), (3, model.config.frames, 3, model.config.image_size, model.config.image_size)
    frames = rng.integers(0, 256, shape, np.uint8)
    fbank = rng.standard_normal((3, 1, *model.config.fbank), np.float32)
    with torch.no_grad():
        wanted = model(torch.from_numpy(frames), torch.from_numpy(fbank)).numpy()
    taken = [{"frames": frames, "fbank": fbank}[name] for name in ports.inputs(served.contract)]
    assert np.ptp(wanted, axis=0).max() > 1e-3, "clips differ"
    np.testing.assert_allclose(served.logits(*taken), wanted, rtol=1e-4, atol=1e-4)
