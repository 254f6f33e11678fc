"""A real Triton server with a model of values of each step: its client tells what `mmadfer predict` tells."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from needs import needed
from test_step_export import VALUES, awake, contract
from triton_server import serving

from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.server.to_triton import to_triton
from mmadfer.model.weights.build import save_weights
from mmadfer.runtime import Recogniser
from mmadfer.runtime.inputs import Video, read_parts

needed("tritonclient.grpc")
pytestmark = pytest.mark.slow


def test_the_client_writes_the_values_of_each_step(video: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", awake("step"), contract("step"), frozen=True)
    graph = to_onnx(tmp_path / "w.safetensors", tmp_path / "m.onnx")
    repository = to_triton(graph, tmp_path / "repo", readers=1)
    with serving(tmp_path, repository) as server:
        command = [sys.executable, repository / "client.py", video, "--server", server.grpc]
        done = subprocess.run([*command, "--json", tmp_path / "a.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (told,) = json.loads((tmp_path / "a.json").read_text())
    recogniser = Recogniser(graph)
    (part,) = read_parts(Video(video), recogniser.contract)
    assert part.inputs is not None
    wanted = recogniser.backend.logits(*part.inputs)[0]
    assert told["series"]["seconds"] == pytest.approx(part.times[part.shown[0]].tolist())
    for k, name in enumerate(VALUES):
        assert told["series"]["values"][name] == pytest.approx(wanted[:, k].tolist(), abs=1e-5)
        assert told["values"][name] == pytest.approx(wanted[:, k].mean(), abs=1e-5)
    assert "valence" in done.stdout
