"""Landmarks in a store: optional, the same with any number of workers, counted, drawn; nothing else changes."""

import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from make_media import portrait, video, write_images
from PIL import Image

from mmadfer.cli import doctor
from mmadfer.config.schema import PrepareConfig, load, parse
from mmadfer.data.compatibility import adopted
from mmadfer.data.faces.landmarks import clip_landmarks
from mmadfer.data.faces.landmarks68 import GROUPS, TENSOR
from mmadfer.data.preparation import prepare as preparation
from mmadfer.data.preparation.prepare import prepare, print_summary
from mmadfer.data.preparation.preview import write_preview
from mmadfer.data.preparation.workers import prepare_clip
from mmadfer.data.sets import ClipTable, SourceClip
from mmadfer.data.store.record import LATER
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError

pytestmark = pytest.mark.slow

PLAIN = PrepareConfig(face_size=96, no_sound="silence")
WITH = PLAIN.model_copy(update={"landmarks": "face_mesh_v2"})


def clips(root: Path) -> ClipTable:
    """Two films of a face, cropped frames without one, cropped frames of which one is black, and one with its own."""
    films = [video(root / f"{name}.mp4", 0.2, step=step) for name, step in (("a", 1), ("b", 2))]
    face = np.asarray(Image.fromarray(portrait()).crop((80, 54, 156, 130)).resize((96, 96)))
    wall = write_images(root / "wall", [np.full((96, 96, 3), 90 + k, np.uint8) for k in range(3)])
    half = write_images(root / "half", [face, np.zeros_like(face)])
    own = write_images(root / "own", [face, face])
    np.save(root / "own.npy", np.full((2, 68, 2), 7, np.float32))
    return ClipTable(
        "made",
        ("glad",),
        [
            *(SourceClip(film.stem, film, "glad", 1 + k) for k, film in enumerate(films)),
            SourceClip("wall", wall, "glad", 1, cropped=True),
            SourceClip("half", half, "glad", 2, cropped=True),
            SourceClip("own", own, "glad", 2, cropped=True, tensors={TENSOR: root / "own.npy"}),
        ],
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("landmarks")
    table = clips(folder / "media")
    plain, out = folder / "plain.store", folder / "out.store"
    prepare(table, plain, PLAIN)
    return SimpleNamespace(table=table, folder=folder, plain=plain, out=out, summary=prepare(table, out, WITH))


def test_each_frame_has_its_landmarks(made: SimpleNamespace) -> None:
    with Store(made.out) as store:
        assert store.header.landmarks.startswith("face_mesh_v2, sha256 ")
        assert {name: clip.landmarked for name, clip in store.clips.items()} == {
            "a": 5, "b": 5, "wall": 0, "half": 1, "own": 0,
        }  # fmt: skip
        record = store.read("a")
        landmarks = record.tensors[TENSOR]
        assert isinstance(landmarks, np.ndarray)
        assert (landmarks.shape, landmarks.dtype) == ((5, 68, 2), np.float16)
        assert landmarks.tobytes() == clip_landmarks(record.jpegs).tobytes()
        eyes = [landmarks[0, [*GROUPS[name]]].mean(axis=0) for name in ("left_eye", "right_eye")]
        assert 20 < eyes[0][0] < 45 < eyes[1][0] < 70  # of 96
        assert store.clips["a"].tensors == {TENSOR: ""}
        assert store.verify() == []


def test_frames_without_reliable_ones_are_nan(made: SimpleNamespace) -> None:
    with Store(made.out) as store:
        wall, half = (store.read(name, [0], [TENSOR]).tensors[TENSOR] for name in ("wall", "half"))
        assert np.isnan(wall).all()
        assert np.isfinite(half).all(axis=(1, 2)).tolist() == [True, False]


def test_a_clip_that_brings_its_own_keeps_them(made: SimpleNamespace) -> None:
    with Store(made.out) as store:
        assert store.clips["own"].tensors == {TENSOR: "own.npy"}
        assert (store.read("own").tensors[TENSOR] == 7).all()


def test_nothing_else_of_the_store_changes(made: SimpleNamespace) -> None:
    with Store(made.plain) as plain, Store(made.out) as store:
        assert "landmarks" not in _index(made.plain)["prepare"]
        assert "landmarks" not in _index(made.plain)
        assert plain.header.landmarks == ""
        assert "landmarked" not in str(_index(made.plain)["clips"])
        for name in plain.clips:
            one, other = plain.read(name), store.read(name)
            assert one.jpegs == other.jpegs
            assert one.fbank.tobytes() == other.fbank.tobytes()
            assert {*one.tensors} - {LATER} == ({TENSOR} if name == "own" else set())


def test_the_report_counts_them(made: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(made.summary.report.read_text())
    assert report["landmarks"] == {
        "clips": 4, "without": ["wall"], "shares": {"a": 1.0, "b": 1.0, "half": 0.5, "wall": 0.0},
    }  # fmt: skip
    print_summary(made.summary)
    assert "clips without reliable landmarks: 1 of 4 (wall); on average 62.5% of" in capsys.readouterr().out
    assert "landmarks" not in json.loads((made.folder / "plain.store.report.json").read_text())


def test_the_doctor_tells_of_them(made: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    doctor.store(made.out)
    assert "; landmarks: in 11 of 17 frames (face_mesh_v2, sha256 " in capsys.readouterr().out
    doctor.store(made.plain)
    assert "landmarks:" not in capsys.readouterr().out


def test_they_are_drawn_on_the_contact_sheet(made: SimpleNamespace) -> None:
    pages = {}
    for name, store in (("plain", made.plain), ("out", made.out)):
        page = made.folder / f"{name}.html"
        write_preview(store, page)
        pages[name] = page.read_text()
    assert "5 frames, landmarks in 5 of them" in pages["out"]
    assert "1 clip of 4 without reliable ones" in pages["out"]
    assert "landmarks in" not in pages["plain"]
    green = {name: [_green(jpeg) for jpeg in _jpegs(page)] for name, page in pages.items()}
    assert (
        sum(count > 20 for count in green["out"]) == 5 + 5 + 1
    )  # of two films and the half clip; 7, 7 is a single dot
    assert max(green["plain"]) < 20


def test_several_workers_make_the_same_bytes(made: SimpleNamespace) -> None:
    again = made.folder / "workers.store"
    prepare(made.table, again, WITH, jobs=2)
    assert again.read_bytes() == made.out.read_bytes()


def test_it_goes_on_after_a_stop_and_is_done_once(made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "PART", 1)
    again, seen = made.folder / "again.store", list[str]()

    def stopping(task: preparation.ClipJob) -> preparation.PreparedClip:
        if task.source.id == "half" and "half" not in seen:
            seen.append("half")
            raise KeyboardInterrupt
        seen.append(task.source.id)
        return prepare_clip(task)

    monkeypatch.setattr("mmadfer.data.preparation.workers.prepare_clip", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepare(made.table, again, WITH)
    before = [name for name in seen if name != "half"]
    prepare(made.table, again, WITH)
    assert again.read_bytes() == made.out.read_bytes()
    assert all(seen.count(name) == 1 for name in before[:-1])
    assert prepare(made.table, again, WITH).already


def test_another_setting_is_another_store(made: SimpleNamespace) -> None:
    with pytest.raises(DataError, match="was prepared from other clips or with other settings"):
        prepare(made.table, made.out, PLAIN)
    with pytest.raises(DataError, match="was prepared from other clips or with other settings"):
        prepare(made.table, made.plain, WITH)


def test_a_configuration_may_name_them_or_not(made: SimpleNamespace) -> None:
    asked = {"name": "x", "prepare": {"face_size": 96, "no_sound": "silence", "landmarks": "face_mesh_v2"}}
    with Store(made.plain) as plain, Store(made.out) as store:
        config, words = adopted(parse({**asked, "data": {"folds": 2}}, where="test"), plain)
        assert config.prepare.landmarks == "none"
        assert "prepared with landmarks none, not landmarks face_mesh_v2" in words
        quiet = {**asked["prepare"], "landmarks": "none"}
        config, words = adopted(parse({**asked, "prepare": quiet, "data": {"folds": 2}}, where="test"), store)
        assert config.prepare.landmarks == "face_mesh_v2"


def test_settings_without_them_are_written_as_before() -> None:
    assert "landmarks" not in load("dfew_160").prepare.model_dump()
    assert PrepareConfig.model_validate(WITH.model_dump(mode="json")) == WITH


def test_without_onnx_runtime_the_extra_is_named_before_anything_is_prepared(made: SimpleNamespace) -> None:
    code = "import sys; sys.modules['onnxruntime'] = None; from mmadfer.cli.main import app, run; sys.exit(run(app))"
    store = made.folder / "none.store"
    for label in ("glad", "sad"):
        video(made.folder / "labels" / label / "a.mp4", 0.2)
    words = ["prepare", "folder", "--root", made.folder / "labels", "--out", store, "--set", "data.folds=2"]
    words += ["--set", "prepare.landmarks=face_mesh_v2"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "onnxruntime, which is not installed: pip install '.[landmarks]'" in " ".join(done.stderr.split())
    assert not os.path.lexists(store.with_name("none.store.partial"))


def test_an_unknown_model_is_refused(made: SimpleNamespace) -> None:
    words = ["prepare", "folder", "--root", made.folder, "--out", made.folder / "x", "--set", "prepare.landmarks=dlib"]
    command = [sys.executable, "-m", "mmadfer", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'none' or 'face_mesh_v2'" in " ".join(done.stderr.split())


def _index(store: Path) -> dict:
    import zipfile

    with zipfile.ZipFile(store) as archive:
        return json.loads(archive.read("index.json"))


def _jpegs(page: str) -> list[bytes]:
    return [b64decode(data) for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", page)]


def _green(jpeg: bytes) -> int:
    """Pixels of a face that are as green as a landmark."""
    red, green, blue = np.asarray(Image.open(BytesIO(jpeg)).convert("RGB"), np.int16).transpose(2, 0, 1)
    return int(((green - red > 60) & (green - blue > 60)).sum())
