"""Engines in a comparison, on a simulated GPU: ONNX Runtime computes in the engine's place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_setup import perturbed
from needs import needed
from trt_simulation import Cuda, api

from mmadfer.data.store.store import Store
from mmadfer.errors import ParityError
from mmadfer.export.engine.to_trt import to_engine
from mmadfer.export.parity.comparison import check_parity
from mmadfer.export.parity.exported_models import load_models
from mmadfer.export.parity.logits import compare_models
from mmadfer.runtime import Recogniser
from mmadfer.runtime.backends import cuda, engines

trt = needed("tensorrt_rtx")


def test_an_engine_computes_batches_of_every_size_that_it_is_tuned_for(
    checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each size three times in a row, so that a recorded graph answers, too. What TF32 loses is explained.

    One clip is padded to two, then come two, then three.
    """
    engine = to_engine(onnx_file, tmp_path / "lossy.engine", batch=(2, 2, 3), flavour="rtx", tf32=True)
    graph = perturbed(onnx_file, tmp_path / "in_its_place.onnx")
    simulated = Cuda(cuda.bindings())
    monkeypatch.setattr(cuda, "bindings", lambda: simulated)
    monkeypatch.setattr(engines, "flavour", lambda name: (name, api(trt, graph, simulated)))
    (candidate,), _ = load_models([engine], "cpu", [engine])
    backend, sizes = candidate.recogniser.backend, list[int]()
    backend._execution._by_hand = True  # type: ignore[attr-defined]  # as with TensorRT 10 and 11
    compute = backend.logits

    def counted(*arrays: Any) -> np.ndarray:
        sizes.append(len(arrays[0]))
        return compute(*arrays)

    monkeypatch.setattr(backend, "logits", counted)
    with Store(store) as opened:
        found = compare_models(Recogniser(checkpoint, "torch"), [candidate], opened, list(opened.clips) * 3)
    vars(backend).pop("_execution")  # while there is a device to give its memory back to
    assert sizes == [1, 1, 1, 2, 2, 2, 3, 1]  # and the worst clip on its own
    assert simulated.launches == 5  # of all that are computed as two but the first
    assert found.to_dict()["forms"][0]["logit_difference"]["max"] == pytest.approx(1e-3, rel=0.05)
    with pytest.raises(ParityError, match=r"lossy\.engine \(fp32\) .*; it was built with --tf32: ") as told:
        check_parity(found)
    assert "same batch" not in str(told.value)
