"""Graphs in fewer bits: what they give, what stays in float32, and which clips they are calibrated on."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from export_setup import CONTRACT, awake, clips
from needs import needed

from mmadfer.data.store.store import Store
from mmadfer.errors import DataError, WeightsError
from mmadfer.export.graph import calibration, precision, quantisation
from mmadfer.export.graph.to_onnx import build_graph, carried, to_onnx
from mmadfer.runtime.backends.ort import OrtBackend

FLOAT, HALF, BRAIN, INT8, FP8 = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.INT8,
    onnx.TensorProto.FLOAT8E4M3FN,
)
WEIGHTS = {"fp16": HALF, "bf16": BRAIN, "int8": INT8, "fp8": FP8}
TOLERANCE = {"fp16": 5e-3, "bf16": 5e-2, "int8": 0.2, "fp8": 0.5}
"""Of logits up to 4, whose spread between clips is 1."""


def run(proto: Any, frames: np.ndarray, fbank: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.x64quantprecision", "1")  # as `OrtBackend`: or int8 is for VNNI alone
    if any(tensor.data_type == FP8 for tensor in proto.graph.initializer):
        options.add_session_config_entry("session.disable_quant_qdq", "1")  # its fused kernels are for int8 alone
    session = ort.InferenceSession(proto.SerializeToString(), options)
    logits: np.ndarray = session.run(None, {"frames": frames, "fbank": fbank})[0]
    return logits


def fed(*batches: int) -> list[dict[str, np.ndarray]]:
    return [dict(zip(("frames", "fbank"), clips(batch), strict=True)) for batch in batches]


@pytest.fixture(scope="module")
def lowered(checkpoint: Path, calibration_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The graph in every precision, as the exporter writes it."""
    needed("modelopt")
    folder = tmp_path_factory.mktemp("lowered")
    return {
        kind: onnx.load(to_onnx(checkpoint, folder / f"{kind}.onnx", precision=kind, data=calibration_store))  # type: ignore[arg-type]
        for kind in WEIGHTS
    }


@pytest.mark.parametrize("kind", WEIGHTS)
def test_it_gives_nearly_the_same(lowered: dict[str, Any], onnx_file: Path, kind: str) -> None:
    frames, fbank = clips(6)
    proto = precision.widened(lowered[kind]) if kind == "bf16" else lowered[kind]
    wanted, found = run(onnx.load(onnx_file), frames, fbank), run(proto, frames, fbank)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - wanted).max() < TOLERANCE[kind]


@pytest.mark.parametrize("kind", WEIGHTS)
def test_the_outside_stays_and_the_inside_is_smaller(lowered: dict[str, Any], onnx_file: Path, kind: str) -> None:
    proto, single = lowered[kind], onnx.load(onnx_file)
    for ports in ("input", "output"):
        assert list(getattr(proto.graph, ports)) == list(getattr(single.graph, ports))
    matrices = [tensor.data_type for tensor in proto.graph.initializer if len(tensor.dims) == 2]
    assert matrices.count(WEIGHTS[kind]) > 20
    entries = {entry.key: entry.value for entry in proto.metadata_props}
    assert f'"arithmetic":"{kind}"' in entries["mmadfer.contract"]
    assert [opset.version for opset in proto.opset_import] == [{"bf16": 22, "fp8": 19}.get(kind, 18)]


def test_gelu_is_one_operation_in_int8(lowered: dict[str, Any], tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimised.onnx"), 4
    ort.InferenceSession(lowered["int8"].SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert "Erf" not in found
    assert found & {"Gelu", "BiasGelu"}


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_pairs_are_symmetric_and_only_where_weights_are(lowered: dict[str, Any], kind: str) -> None:
    proto = lowered[kind]
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    real = {node.output[0]: node for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    for node in proto.graph.node:
        pairs = [real[name] for name in node.input if name in real]
        assert len(pairs) in (0, 2)
        assert not pairs or (node.op_type == "MatMul" and pairs[1].input[0] in constants)
        assert all(not constants[pair.input[2]].astype(np.float32).any() for pair in pairs)
        assert all((constants[pair.input[1]] > 0).all() for pair in pairs)
    assert len(real) > 40


def wild() -> Any:
    """A model whose tokens are large: float16 cannot hold the squares of some and not at all others."""
    model = awake(1)
    with np.errstate(all="ignore"):
        model.vision.positions.data *= 3e3
        model.audio.positions.data *= 1e6
    return model


def test_float16_keeps_what_would_overflow() -> None:
    needed("modelopt")
    model = wild()
    single = build_graph(model, carried(model, CONTRACT))
    noise, (frames, fbank) = fed(2, 3), clips(4)
    wanted = run(single, frames, fbank)
    checked = run(precision.lower(single, "fp16", noise, []), frames, fbank)
    careless = run(precision._cast(single, "fp16", []), frames, fbank)
    assert not np.isfinite(careless).all()
    np.testing.assert_allclose(checked, wanted, rtol=0, atol=2e-2)


def test_what_is_too_large_is_told_by_its_peak(onnx_file: Path) -> None:
    proto = onnx.load(onnx_file)
    product = next(node for node in proto.graph.node if node.op_type == "MatMul")
    users = {node.name for node in proto.graph.node if product.input[0] in (*node.input, *node.output)}
    assert precision.too_large(proto, {}) == precision.too_large(proto, {product.input[0]: 500.0}) == []
    assert product.name in users
    for peak in (600.0, float("inf"), float("nan")):
        assert set(precision.too_large(proto, {product.input[0]: peak})) == users


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_all_but_products_stay(lowered: dict[str, Any], kind: str) -> None:
    typed = onnx.shape_inference.infer_shapes(lowered[kind]).graph
    types = {value.name: value.type.tensor_type.elem_type for value in typed.value_info}
    of = {True: set[int](), False: set[int]()}
    for node in typed.node:
        if node.op_type in {"Conv", "MatMul", "Add", "LayerNormalization", "Softmax", "Erf"}:
            of[node.op_type in precision.LOW_PRECISION_OPS] |= {types[name] for name in node.output if name in types}
    assert of == {True: {HALF if kind == "fp16" else BRAIN}, False: {FLOAT}}


def test_peaks_are_the_largest_absolute_values(onnx_file: Path) -> None:
    proto = onnx.load(onnx_file)
    batches = fed(2, 3)
    (peak,) = calibration.peaks(proto, batches, ["div"]).values()  # the frames as numbers from 0 to 1
    assert peak == pytest.approx(1.0)
    (counts,) = calibration.histograms(proto, batches, {"div": peak}).values()
    assert counts.sum() == sum(batch["frames"].size for batch in batches)
    whole = np.concatenate([batch["frames"].ravel() for batch in batches]) / np.float32(255)
    np.testing.assert_array_equal(counts, np.histogram(whole, calibration.BINS, (0, 1))[0])


def test_int8_is_cut_where_it_loses_least() -> None:
    even = np.ones(calibration.BINS)
    assert quantisation.best_share(even) > 0.99
    outlier = np.zeros(calibration.BINS)
    outlier[: calibration.BINS // 4] = 1e6
    outlier[-1] = 1
    assert quantisation.best_share(outlier) == pytest.approx(0.25, abs=0.02)


def test_clips_are_never_of_the_test_fold(calibration_store: Path) -> None:
    with Store(calibration_store) as store:
        folds = {name: clip.fold for name, clip in store.clips.items()}
    for fold in range(1, 5):
        contract = CONTRACT.model_copy(update={"fold": fold})
        chosen = calibration.calibration_clips(calibration_store, contract)
        assert {folds[name] for name in chosen.ids} == {1, 2, 3, 4} - {fold}
        assert [{key: value.shape for key, value in clip.items()} for clip in chosen] == [
            {"frames": (1, 4, 3, 32, 32), "fbank": (1, 1, 512, 128)}
        ] * 3
        some = [calibration.calibration_clips(calibration_store, contract, 1, seed).ids for seed in (0, 0, *range(20))]
        assert some[0] == some[1]
        assert {name for (name,) in some} == set(chosen.ids)


def test_clips_that_cannot_be_chosen(store: Path, calibration_store: Path) -> None:
    with pytest.raises(WeightsError, match="on which fold it was tested"):
        calibration.calibration_clips(calibration_store, CONTRACT.model_copy(update={"fold": None}))
    with pytest.raises(DataError, match="clips of the test fold 1 only"):
        calibration.calibration_clips(store, CONTRACT)
    with pytest.raises(DataError, match="labels that the model does not know"):
        calibration.calibration_clips(calibration_store, CONTRACT.model_copy(update={"labels": ("happy", "sad")}))


def test_the_runtime_takes_them(checkpoint: Path, lowered: dict[str, Any], tmp_path: Path) -> None:
    for kind in ("fp16", "int8", "fp8"):
        onnx.save(lowered[kind], tmp_path / f"{kind}.onnx")
        backend = OrtBackend(tmp_path / f"{kind}.onnx")
        assert backend.contract.arithmetic == kind
        np.testing.assert_allclose(backend.logits(*clips(2)), run(lowered[kind], *clips(2)), rtol=0, atol=1e-5)
    onnx.save(lowered["bf16"], tmp_path / "bf16.onnx")
    with pytest.raises(WeightsError, match=r"no kernels for it on device cpu.*another --precision"):
        OrtBackend(tmp_path / "bf16.onnx")
