"""The toy set with a value in each frame: what its clips hold, and that it is made once and prepared whole."""

from pathlib import Path

import numpy as np
import pytest

from mmadfer.config.schema import load
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import DATA_SETS, table, toy_flip
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError


def test_the_valence_is_the_face_or_its_opposite() -> None:
    clips = [toy_flip.content(k) for k in range(4)]
    for clip in clips:
        assert clip.video.shape == (toy_flip.FRAMES, 160, 160, 3)
        assert clip.valence.shape == (toy_flip.FRAMES, 1)
        assert 0.5 < np.abs(clip.valence).max() <= 1
        assert len(clip.sound) == toy_flip.FRAMES * 16000 // toy_flip.FPS
        openness = -clip.video[:, 95:125, 65:95].mean(axis=(1, 2, 3))  # an open mouth is dark
        assert abs(np.corrcoef(openness, clip.valence[:, 0])[0, 1]) > 0.8
    again = toy_flip.content(2)
    assert np.array_equal(again.video, clips[2].video)
    assert np.array_equal(again.sound, clips[2].sound)


def test_the_sign_is_in_one_stretch_of_the_voice() -> None:
    """The loudest eighth beside the rest: far louder where the voice is excited, and not where it is calmer."""
    louder = dict[bool, list[float]]({True: [], False: []})
    for k in range(16):
        clip = toy_flip.content(k)
        power = (clip.sound[: len(clip.sound) // 16 * 16].reshape(16, -1).astype(float) ** 2).mean(axis=1)
        openness = -clip.video[:, 95:125, 65:95].mean(axis=(1, 2, 3))
        positive = np.corrcoef(openness, clip.valence[:, 0])[0, 1] > 0
        louder[bool(positive)].append(10 * np.log10(np.sort(power)[-2:].mean() / np.median(power)))
    assert min(map(len, louder.values())) > 2
    assert np.median(louder[True]) > np.median(louder[False]) + 3


def test_it_is_prepared_with_a_trace_for_each_frame(tmp_path: Path) -> None:
    toy_flip.make(tmp_path / "media", clips=2, jobs=1)
    files = sorted((tmp_path / "media").rglob("flip-*"))
    assert len(files) == 4
    before = [path.stat().st_mtime_ns for path in files]
    clips = table("toy_flip", tmp_path / "media", folds=2)
    assert [path.stat().st_mtime_ns for path in files] == before
    prepare(clips, tmp_path / "flip.store", load("jmt_toy").prepare, jobs=1)
    with Store(tmp_path / "flip.store") as store:
        assert len(store.clips) == 2
        for name in store.clips:
            trace = store.read(name).tensors["mood"]
            assert np.array_equal(np.asarray(trace), toy_flip.content(int(name[-3:])).valence)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="is not a toy_flip set and not empty"):
        DATA_SETS.load("toy_flip")(tmp_path, 5)
    toy_flip.make(tmp_path / "media", clips=1, jobs=1)
    plan = tmp_path / "media" / "plan.json"
    plan.write_text(plan.read_text().replace('"version": 1', '"version": 7'))
    with pytest.raises(DataError, match="holds another toy set"):
        toy_flip.make(tmp_path / "media")
