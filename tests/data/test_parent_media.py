"""Which clips a parent run has seen: known by the media file alone, in CSV sets of one file name, with real media."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmadfer.config.schema import Config, PrepareConfig, parse
from mmadfer.data.parent_leakage import check_stages
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import table
from mmadfer.data.sets.toy import write_clip
from mmadfer.data.sets.toy_voice import VOICE_RATE_HZ
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError
from mmadfer.run import directory as runs

SIDE, FPS, CLIPS = 32, 10, 4


def films(folder: Path, first: int) -> list[Path]:
    """Film k of a set shows the grey and sounds the tone of number `first` + k."""
    folder.mkdir(parents=True)
    return [_film(folder / f"{k}.mp4", first + k) for k in range(CLIPS)]


def _film(path: Path, number: int) -> Path:
    video = np.full((FPS, SIDE, SIDE, 3), 20 + 12 * number, np.uint8)
    sound = 0.5 * np.sin(2 * np.pi * (300 + 90 * number) * np.arange(VOICE_RATE_HZ) / VOICE_RATE_HZ)
    write_clip(path, video, sound.astype(np.float32), FPS)
    return path


def store(media: list[Path], more: str = "", people: str = "abcd") -> Path:
    """A store of a list `clips.csv` beside the films; folds 1, 2, 1, 2."""
    folder = media[0].parent
    header = "path,label,fold,subject" + (",tensor:more" if more else "")
    rows = [
        f"{path.name},{'glad' if k < 2 else 'sad'},{1 + k % 2},{people[k]}" + (f",{more}" if more else "")
        for k, path in enumerate(media)
    ]
    (folder / "clips.csv").write_text("\n".join([header, *rows]))
    found = table("csv", folder / "clips.csv", 2)
    whole = replace(found, clips=[replace(clip, cropped=True) for clip in found.clips])
    return prepare(whole, folder / "clips.store", PrepareConfig(face_size=SIDE)).out


def config(path: Path, **stages: object) -> Config:
    encoder = {"width": 32, "depth": 2, "heads": 2}
    model = {"image_size": SIDE, "frames": 4, "vision": encoder, "audio": encoder, "prompts": 4}
    data = {"store": path, "folds": 2, "threads": 1}
    tree = {"name": "x", "data": data, "model": model, "train": {"batch_size": 1}, "stages": stages}
    return parse(tree, "the test")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the first list."""
    folder = tmp_path_factory.mktemp("parent")
    return runs.create(folder / "run", config(store(films(folder / "media", 0)))).path


def check(path: Path, parent: Path, fold: int = 1) -> None:
    with Store(path) as opened:
        check_stages(config(path, init=parent), opened, [fold])


def test_the_same_file_under_another_name_is_refused(parent: Path, tmp_path: Path) -> None:
    theirs = parent.parent / "media"
    mine = films(tmp_path / "media", 6)
    moved = tmp_path / "media" / "renamed.mp4"
    moved.write_bytes((theirs / "1.mp4").read_bytes())  # trained on there in fold 1
    path = store([moved, *mine[1:]])
    with pytest.raises(DataError, match=r"trained on 1 of the 2 clips .*\(renamed\)"):
        check(path, parent)
    with Store(path) as opened, Store(theirs / "clips.store") as known:
        assert opened.clips["renamed"].media_digest == known.clips["1"].media_digest


def test_the_same_file_with_another_file_beside_it_is_refused(parent: Path, tmp_path: Path) -> None:
    mine = films(tmp_path / "media", 6)
    mine[0].write_bytes((parent.parent / "media" / "1.mp4").read_bytes())
    (tmp_path / "media" / "said.txt").write_text("hm")
    path = store(mine, more="said.txt")
    with Store(path) as opened:
        assert opened.clips["0"].media_digest != opened.clips["0"].sha256
    with pytest.raises(DataError, match=r"trained on 1 of the 2 clips .*\(0\)"):
        check(path, parent)


def test_another_file_or_person_of_the_same_name_is_not_refused(parent: Path, tmp_path: Path) -> None:
    path = store(films(tmp_path / "media", 6), people="badc")  # the parent's fold 1 has been trained on b and d
    with Store(path) as opened:
        assert {*opened.clips} == {"0", "1", "2", "3"}
        assert opened.data_set == "clips"
    check(path, parent, 1)
    check(path, parent, 2)
