"""What a model is fed with: sound and frames, no more than it needs, and what is told of them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from export_setup import CONTRACT

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from make_media import grey, moving_face, tone, write_video

from mmadfer.data.clip import read_clip
from mmadfer.data.media.image import decode_jpeg
from mmadfer.errors import ConfigError, DataError
from mmadfer.runtime import Failure, Prediction, Recogniser, Video
from mmadfer.runtime.inputs import read_whole


def test_sound_that_a_person_names_must_be_there(onnx_file: Path, video: Path, tmp_path: Path) -> None:
    recogniser, typo = Recogniser(onnx_file), tmp_path / "typo.wav"
    silence = CONTRACT.model_copy(update={"prepare": CONTRACT.prepare.model_copy(update={"no_sound": "silence"})})
    recogniser.backend.contract = silence
    for window in (None, 1):
        with pytest.raises(DataError, match=r"typo\.wav does not exist: give the file with the sound of .*mp4"):
            recogniser(video, sound=typo, window=window)
    with pytest.raises(ConfigError, match="a Video says itself"):
        recogniser(Video(video), sound=video)
    read = read_whole(Video(video, typo), silence)  # as parity reads what a store says
    assert read.silent
    (failure,) = recogniser.predict([Video(video, typo)])
    assert isinstance(failure, Failure)
    high = write_video(tmp_path / "high.mkv", [], tone(3, 96_000), rate=96_000, codecs=("mpeg4", "flac"))
    recogniser.backend.contract = silence.model_copy(update={"sound_rates": (44_100,)})
    with pytest.raises(DataError, match=r"high\.mkv"):
        recogniser(video, sound=high)
    recogniser.backend.contract = silence.model_copy(update={"modalities": "vision"})
    assert recogniser(video, sound=typo).notes == []


def test_frames_that_were_cropped_with_their_sound_apart(onnx_file: Path, video: Path, tmp_path: Path) -> None:
    every = read_clip(video, CONTRACT.prepare)
    for k, data in enumerate(every.jpegs):
        assert decode_jpeg(data).shape == (64, 64, 3)
        (tmp_path / f"{k}.jpg").write_bytes(data)
    found = Recogniser(onnx_file)(tmp_path, sound=video, cropped=True)
    expected = Recogniser(onnx_file)(video)
    assert found.probabilities == expected.probabilities
    with pytest.raises(DataError, match="folder of images"):
        Recogniser(onnx_file)(tmp_path, cropped=True)


def test_a_model_needs_only_what_it_was_trained_on(onnx_file: Path, video: Path, tmp_path: Path) -> None:
    from mmadfer.data.sets import toy

    frames, sound = toy.content("sad", 0, seed=1)
    toy.write_clip(tmp_path / "silent.mp4", frames, sound[:0])
    toy.write_clip(tmp_path / "faceless.mp4", np.full_like(frames, 128), sound)
    for modalities, name in (("vision", "silent"), ("audio", "faceless")):
        recogniser = Recogniser(onnx_file)
        recogniser.backend.contract = CONTRACT.model_copy(update={"modalities": modalities})
        assert recogniser(tmp_path / f"{name}.mp4").notes == []


def test_frames_without_a_face_are_told(onnx_file: Path, tmp_path: Path) -> None:
    from mmadfer.data.sets import toy

    frames, sound = toy.content("sad", 0, seed=1)
    frames = frames.copy()
    frames[len(frames) // 2 :] = 128
    toy.write_clip(tmp_path / "half.mp4", frames, sound)
    recogniser = Recogniser(onnx_file)
    union = CONTRACT.prepare.model_copy(update={"face_box": "union"})
    recogniser.backend.contract = CONTRACT.model_copy(update={"prepare": union})
    assert recogniser(tmp_path / "half.mp4").notes == ["no face in 2 of 4 frames, the picture's middle in its place"]


def test_a_model_that_hears_samples_is_fed_them(onnx_file: Path, video: Path) -> None:
    from mmadfer.config.schema import SoundConfig
    from mmadfer.runtime.arrays import from_clip, seen_frames

    prepare = CONTRACT.prepare.model_copy(update={"sound": SoundConfig(rate=16000)})
    contract = CONTRACT.model_copy(update={"input": "waveform", "waveform_rate": 16000, "prepare": prepare})
    clip = read_clip(video, prepare, keep=seen_frames(contract))
    frames, waveform, lengths = from_clip(clip, contract)
    assert (waveform.shape, waveform.dtype) == ((1, contract.samples), np.float32)
    assert lengths.tolist() == [len(clip.waveform)]
    assert 2.7 * 16000 < lengths[0] < contract.samples
    assert not waveform[0, lengths[0] :].any()
    assert frames.shape == (1, 4, 3, 32, 32)
    deaf = contract.model_copy(update={"modalities": "vision"})
    assert from_clip(clip, deaf)[2].tolist() == [0]


def test_sound_goes_into_the_model_as_samples_with_the_same_answer(
    checkpoint: Path, video: Path, tmp_path: Path
) -> None:
    from mmadfer.config.schema import SoundConfig
    from mmadfer.export.graph.to_onnx import to_onnx
    from mmadfer.model.weights.build import load_weights, save_weights

    model, _ = load_weights(checkpoint)
    prepare = CONTRACT.prepare.model_copy(update={"sound": SoundConfig(rate=16000)})
    same = tmp_path / "same.safetensors"
    save_weights(same, model, CONTRACT.model_copy(update={"prepare": prepare}), frozen=True)
    heard = Recogniser(to_onnx(same, tmp_path / "waveform.onnx", input="waveform"))
    assert heard.backend.input == "waveform"
    bands = Recogniser(same)
    assert heard(video).probabilities == pytest.approx(bands(video).probabilities, abs=1e-4)
    found, expected = heard(video, window=1), bands(video, window=1)
    for one, other in zip(found.segments, expected.segments, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)
    assert heard.warm().backend.logits(*heard_nothing(heard)).shape == (1, 4)


def heard_nothing(recogniser: Recogniser) -> tuple[np.ndarray, ...]:
    from mmadfer.runtime.arrays import empty_clip

    return empty_clip(recogniser.contract)


def test_windows_without_a_face_are_in_their_place(onnx_file: Path, video: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [*moving_face(25), *grey(50), *moving_face(25)], tone(4))
    recogniser = Recogniser(onnx_file)
    one, other = recogniser.predict([path, video], batch=16, window=1)
    assert isinstance(one, Prediction)
    assert [part["label"] is None for part in one.segments] == [False, True, True, False]
    assert one.probabilities == pytest.approx(recogniser(path, window=1).probabilities, abs=1e-5)
    assert isinstance(other, Prediction)
