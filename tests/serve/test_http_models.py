"""Models of other kinds, served by a service in this process: each answers as the library does."""

import json
from pathlib import Path
from typing import Any

import pytest
from export_setup import CONTRACT, ENCODER, MODEL
from export_setup import awake as classes
from serve_setup import until
from test_step_export import awake as steps
from test_step_export import contract as of_steps

from mmadfer import Recogniser
from mmadfer.config.schema import ModelConfig
from mmadfer.data.video_windows import Windows
from mmadfer.model.weights.build import build_model, save_weights
from mmadfer.serve.job import ENDS, Job
from mmadfer.serve.limits import Limits
from mmadfer.serve.server import serving
from mmadfer.serve.upload import Upload


def values(path: Path) -> Path:
    save_weights(path, steps("step"), of_steps("step", None), frozen=True)
    return path


def sound(path: Path) -> Path:
    """Of one that hears alone."""
    one = {"branches": "audio", "audio": ENCODER.model_dump(), "fusion": "none", "prompts": 0, "progressive": 0}
    config = ModelConfig.model_validate({**MODEL.model_dump(), **one})
    save_weights(path, build_model(config, 4), CONTRACT.model_copy(update={"model": config}), frozen=True)
    return path


def frames(path: Path) -> Path:
    save_weights(path, classes(2), CONTRACT.model_copy(update={"modalities": "vision"}), frozen=True)
    return path


def tempered(path: Path) -> Path:
    save_weights(path, classes(2), CONTRACT.model_copy(update={"temperature": 2.0}), frozen=True)
    return path


@pytest.mark.parametrize(
    ("make", "options"),
    [(values, {}), (sound, {}), (frames, {"clips": 2, "flips": True}), (tempered, {"calibrated": True})],
)
def test_each_answers_as_the_library(make: Any, options: dict[str, Any], video: Path, tmp_path: Path) -> None:
    recogniser = Recogniser(make(tmp_path / "model.safetensors"), **options)
    with serving(recogniser, Limits(live=0, keep_minutes=0.001)) as service:
        assert json.loads(json.dumps(service.model(), allow_nan=False))["output"] in ("labels", "values")
        for windows in (None, Windows(1.0, 0.5)):
            upload = Upload(tmp_path / "upload", "clip.mp4")
            upload.video.write_bytes(video.read_bytes())
            job = Job(service.jobs.new_id(), upload, recogniser, windows)
            service.jobs.add(job)
            until(lambda job=job: job.state in ENDS)
            assert (job.state, job.error) == ("done", "")
            asked = {} if windows is None else {"window": windows.seconds, "hop": windows.hop}
            assert job.prediction.to_dict() == recogniser(video, **asked).to_dict() | {"video": "clip.mp4"}
            assert bool(job.boxes()) == (make is not sound)
            assert not upload.video.exists()
        if make is tempered:
            assert job.prediction.probabilities != Recogniser(recogniser.path)(video, window=1.0, hop=0.5).probabilities
        if make is sound:
            until(lambda: service.jobs.get(job.id) is None)  # forgotten, though nobody asks
