"""Named targets, splits, tensors and all of the sound: from a CSV file and real media to the store, and to batches."""

import json
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmadfer.cli import doctor
from mmadfer.config.schema import Config, PrepareConfig, parse
from mmadfer.data import fold_clips
from mmadfer.data.clip import read_clip
from mmadfer.data.loading.loader import Loader
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.media.fbank import SILENCE
from mmadfer.data.preparation.prepare import _identity as identity_of
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.preparation.preview import write_preview
from mmadfer.data.preparation.summary import print_summary, to_dict
from mmadfer.data.preparation.workers import ClipJob
from mmadfer.data.sets import ClipTable, SourceClip, table
from mmadfer.data.sets.toy import write_clip
from mmadfer.data.sets.toy_voice import VOICE_RATE_HZ
from mmadfer.data.store.index import _row as row_of
from mmadfer.data.store.record import LATER, Clip
from mmadfer.data.store.source_files import UNREAD
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError, DataError

SIDE, FPS, SECONDS = 32, 10, 8
SETTINGS = PrepareConfig(face_size=SIDE)
HEADER = (
    "path,label,subject,label:arousal,labels:tags,value:valence,steps:track:v|a,tensor:landmarks,tensor:said,"
    "split:official,split:halves,group:sex,group:light"
)
PARTS = ("train", "train", "train", "validation", "test", "test")


def film(path: Path, seconds: int = SECONDS) -> Path:
    """Second s is s steps brighter than the first, and sounds at 400 (s + 1) Hz."""
    frames = np.repeat(np.arange(seconds), FPS)
    video = np.broadcast_to((30 + 25 * frames)[:, None, None, None], (len(frames), SIDE, SIDE, 3)).astype(np.uint8)
    time = np.arange(seconds * VOICE_RATE_HZ) / VOICE_RATE_HZ
    sound = 0.5 * np.sin(2 * np.pi * 400 * (1 + time.astype(int)) * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, np.ascontiguousarray(video), sound.astype(np.float32), FPS)
    return path


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rows = tmp_path_factory.mktemp("named"), [HEADER]
    for k, part in enumerate(PARTS):
        film(root / f"{k}.mp4", 2 if k else SECONDS)
        halves = np.repeat([[k, -1], [k, 1]], FPS * (2 if k else SECONDS) // 2, axis=0)
        np.savetxt(root / f"{k}.csv", halves, delimiter=",", header="v,a" if k % 2 else "", comments="")
        np.save(root / f"{k}.npy", np.full((20, 68, 2), k, np.float32))
        (root / f"{k}.txt").write_text(f"clip {k}: é", "utf-8")
        tags = "loud|near" if k % 2 else ""
        values = f"{'low' if k < 3 else 'high'},{tags},{k / 4 if k else ''},{k}.csv,{k}.npy,{k}.txt"
        groups = f"{'fm'[k % 2]},{'' if k == 2 else 'evening sun'}"
        rows.append(f"{k}.mp4,{'sad' if k % 2 else 'glad'},s{k // 2},{values},{part},{1 + k % 2},{groups}")
    (root / "clips.csv").write_text("\n".join(rows))
    return root / "clips.csv"


@pytest.fixture(scope="module")
def path(listed: Path) -> Path:
    found = table("csv", listed, 2)
    whole = replace(found, clips=[replace(clip, cropped=True) for clip in found.clips])
    summary = prepare(whole, listed.with_name("named.store"), SETTINGS)
    assert summary.kept == len(PARTS)
    return summary.out


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


def config(path: Path, **data: object) -> Config:
    encoder = {"width": 32, "depth": 2, "heads": 2}
    model = {"image_size": SIDE, "frames": 4, "vision": encoder, "audio": encoder, "prompts": 4}
    train = {"batch_size": 1, "epochs": 1}
    tree = {"name": "x", "data": {"store": path, "threads": 1, **data}, "model": model, "train": train}
    return parse(tree, "the test")


def test_everything_that_was_listed_is_in_the_store(store: Store) -> None:
    assert {name: (one.kind, one.names) for name, one in store.targets.items()} == {
        "label": ("label", ("glad", "sad")),
        "arousal": ("label", ("high", "low")),
        "tags": ("labels", ("loud", "near")),
        "valence": ("values", ("valence",)),
        "track": ("steps", ("v", "a")),
    }
    assert store.clips["3"].targets == {"arousal": "high", "tags": ["loud", "near"], "valence": [0.75]}
    assert store.clips["0"].targets == {"arousal": "low"}, "an empty cell is no target"
    assert store.clips["3"].groups == {"sex": "m", "light": "evening sun"}
    assert store.clips["2"].groups == {"sex": "f"}, "an empty cell is no group"
    record = store.read("3", [0, 5], ["landmarks", "said", "none"])
    assert record.tensors["said"] == "clip 3: é"
    landmarks = record.tensors["landmarks"]
    assert isinstance(landmarks, np.ndarray)
    assert (landmarks.shape, landmarks.dtype, landmarks.mean()) == ((20, 68, 2), np.float32, 3)
    assert set(record.tensors) == {"landmarks", "said"}
    assert set(store.read("0").tensors) == {"landmarks", "said", "track", LATER}
    assert store.verify() == []


def test_the_first_frames_of_sound_are_the_published_ones_and_the_rest_follows(store: Store, listed: Path) -> None:
    alone = read_clip(listed.with_name("0.mp4"), SETTINGS, cropped=True)
    record, clip = store.read("0"), store.clips["0"]
    assert record.fbank.tobytes() == alone.fbank.tobytes()
    later = record.tensors[LATER]
    assert isinstance(later, np.ndarray)
    assert clip.sound_frames == 512 + len(later)
    assert 100 * SECONDS - 5 < clip.sound_frames < 100 * SECONDS + 10
    assert store.clips["1"].sound_frames < 210
    assert LATER not in store.read("1").tensors


def test_how_much_sound_is_kept_is_a_setting(listed: Path, tmp_path: Path) -> None:
    found = table("csv", listed, 2)
    one = replace(found, clips=[replace(clip, cropped=True, splits={}) for clip in found.clips[:2]])
    short = PrepareConfig.model_validate({"face_size": SIDE, "sound": {"max_seconds": 0}})
    with Store(prepare(one, tmp_path / "short.store", short).out) as made:
        assert made.clips["0"].sound_frames == 512


@pytest.mark.parametrize("second", [0, 3, 6])
def test_a_window_has_frames_and_sound_of_the_same_seconds(store: Store, path: Path, second: int) -> None:
    settings = config(path, augment={"brightness": [1, 1], "area": [1, 1], "ratio": [1, 1]})
    with closing(Loader(store, settings, store.labels)) as loader:
        (batch,) = loader.train(0, [[Pick("0", window=(second * FPS, FPS))]])
    seen = batch.frames.float().mean(dim=(2, 3, 4))[0]
    assert ((seen - (30 + 25 * second)).abs() < 4).all(), "the frames are of another second"
    sound = batch.fbank[0, 0].numpy()
    heard = int((np.abs(sound - SILENCE).max(axis=1) > 1e-6).sum())
    assert 98 <= heard <= 102, "the sound ends with the window"
    spectrum = store.read("0").tensors[LATER] if second > 5 else store.read("0").fbank
    assert isinstance(spectrum, np.ndarray)
    middle = spectrum[second * 100 + 50 - (512 if second > 5 else 0)]
    assert sound[5:90].mean(axis=0).argmax() == middle.argmax(), "the sound is of another second"
    tones = [batch_tone(path, store, k) for k in (0, 3, 6)]
    assert len({*tones}) == 3, "each second has a tone of its own"


def batch_tone(path: Path, store: Store, second: int) -> int:
    with closing(Loader(store, config(path), store.labels)) as loader:
        (batch,) = loader.train(0, [[Pick("0", window=(second * FPS, FPS))]])
    return int(batch.fbank[0, 0, 5:90].mean(dim=0).argmax())


def test_a_window_outside_of_the_clip_is_refused(store: Store, path: Path) -> None:
    with closing(Loader(store, config(path), store.labels)) as loader, pytest.raises(DataError, match="no window of 9"):
        next(loader.train(0, [[Pick("1", window=(15, 9))]]))


def test_batches_have_all_targets(store: Store, path: Path) -> None:
    with closing(Loader(store, config(path), store.labels)) as loader:
        (batch,) = loader.test(["0", "3"], 2)
    found = {name: value.tolist() for name, value in batch.targets.items()}
    assert found["label"] == [0, 1]
    assert found["arousal"] == [1, 0]
    assert np.isnan(found["tags"][0]).all()
    assert found["tags"][1] == [1, 1]
    assert np.isnan(found["valence"][0]).all()
    assert found["valence"][1] == [0.75]
    assert found["track"] == [[[0, -1], [0, -1], [0, 1], [0, 1]], [[3, -1], [3, -1], [3, 1], [3, 1]]]


def test_splits_are_views_by_name(store: Store, path: Path) -> None:
    official = config(path, split="official")
    assert fold_clips.test_clips(official, store, 1) == ["4", "5"]
    assert fold_clips.validation_clips(official, store, 1) == ["3"]
    assert [clip.id for clip in fold_clips.training_clips(official, store, 1)] == ["0", "1", "2"]
    with pytest.raises(ConfigError, match="has 1 clips for validation"):
        fold_clips.validation_clips(config(path, split="official", validation=0.5), store, 1)
    with pytest.raises(DataError, match="no fold 2 of the split official; it has 1"):
        fold_clips.test_clips(official, store, 2)
    halves = config(path, split="halves")
    assert fold_clips.test_clips(halves, store, 2) == ["1", "3", "5"]
    people = config(path, split="leave_one_subject_out")
    assert [fold_clips.test_clips(people, store, k) for k in (1, 2, 3)] == [["0", "1"], ["2", "3"], ["4", "5"]]
    chosen = config(path, split="leave_one_subject_out(s2, s0)")
    assert [fold_clips.test_clips(chosen, store, k) for k in (1, 2)] == [["4", "5"], ["0", "1"]]
    assert [clip.id for clip in fold_clips.training_clips(chosen, store, 2)] == ["2", "3", "4", "5"]
    with pytest.raises(DataError, match=r"no fold 3 of the split leave_one_subject_out\(s2, s0\); it has 1, 2"):
        fold_clips.test_clips(chosen, store, 3)
    with pytest.raises(DataError, match="'s7', whom no clip shows; the nearest of its 3 are s2, s1, s0"):
        fold_clips.test_clips(config(path, split="leave_one_subject_out(s1,s7)"), store, 1)
    with pytest.raises(DataError, match="names a subject twice: s1, s1"):
        fold_clips.test_clips(config(path, split="leave_one_subject_out(s1, s1)"), store, 1)
    with pytest.raises(DataError, match="no split 'other': the store has folds, leave_one_subject_out, by_subject, h"):
        fold_clips.test_clips(config(path, split="other"), store, 1)


def test_preparing_again_finds_the_same_and_changed_files_of_tensors(path: Path, listed: Path) -> None:
    found = table("csv", listed, 2)
    whole = replace(found, clips=[replace(clip, cropped=True) for clip in found.clips])
    assert prepare(whole, path, SETTINGS).already
    text = listed.with_name("2.txt")
    before = text.read_text("utf-8")
    text.write_text("another", "utf-8")
    try:
        with pytest.raises(DataError, match="the files of 1 of 6 clips are not those"):
            prepare(whole, path, SETTINGS)
    finally:
        text.write_text(before, "utf-8")


def test_a_store_without_groups_is_what_it_was(listed: Path) -> None:
    """Neither the fingerprint nor the index tells of what clips do not have."""
    one = table("csv", listed, 2).clips[0]
    with_groups, without = (
        identity_of(ClipJob(clip, "0.mp4", SETTINGS), UNREAD) for clip in (one, replace(one, groups={}))
    )
    assert [found for found in with_groups if found not in without] == [[("light", "evening sun"), ("sex", "f")]]
    assert len(without) == len(with_groups) - 1
    assert "groups" not in row_of(Clip("a", "glad", 1, "a.mp4", 1))
    assert row_of(Clip("a", "glad", 1, "a.mp4", 1, groups={"sex": "f"}))["groups"] == {"sex": "f"}


def test_damage_in_a_tensor_is_found(path: Path, tmp_path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.index("clip 3: é".encode())
    data[at] ^= 1
    made = tmp_path / "damaged.store"
    made.write_bytes(data)
    with Store(made) as store:
        assert store.verify() == ["3"]
        assert store.read("3", [0], ["landmarks"]).jpegs
        with pytest.raises(DataError, match=r"'3' in .* is damaged"):
            store.read("3", [0], ["said"])


LIES = {
    "a target of no clip": (lambda row: row["targets"].update(mood=1), "a target 'mood', which the store does not"),
    "another label": (lambda row: row["targets"].update(arousal="none"), "'arousal' of kind label cannot be 'none'"),
    "a value too many": (lambda row: row["targets"].update(valence=[1.0, 2.0]), "'valence' of kind values cannot be"),
    "no number": (lambda row: row["targets"].update(valence=[float("nan")]), "'valence' of kind values cannot be"),
    "steps in the index": (lambda row: row["targets"].update(track=[1.0]), "'track' of kind steps cannot be"),
    "a part that cannot be": (lambda row: row["splits"].update(official="exam"), "split 'official' has the parts"),
    "a part and a fold": (lambda row: row["splits"].update(halves="test"), "split 'halves' has the parts 1, 2, test"),
    "a name of our own": (lambda row: row["splits"].update(folds="1"), "'folds' is a name of our own"),
    "a group that is no text": (lambda row: row["groups"].update(sex=1), "groups or tensors that are no text"),
    "a group of two lines": (lambda row: row["groups"].update(sex="a\nb"), "a group that is no line of text"),
    "an odd group": (lambda row: row["groups"].update({"Sex ": "f"}), "of names that cannot be"),
    "an odd name": (lambda row: row["tensors"].update({"../x": ""}), "of names that cannot be"),
    "the name of the sound": (lambda row: row["tensors"].update({LATER: ""}), "of names that cannot be"),
}


@pytest.mark.parametrize("kind", LIES)
def test_an_index_that_lies_about_named_things_is_refused(path: Path, tmp_path: Path, kind: str) -> None:
    change, words = LIES[kind]
    made = tmp_path / "lies.store"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename == "index.json":
                tree = json.loads(data)
                change(tree["clips"][3])
                data = json.dumps(tree).encode()
            new.writestr(zipfile.ZipInfo(item.filename), data)
    with pytest.raises(DataError, match=f"(?s)is not a whole mmadfer store .*{words}"):
        Store(made)


def test_a_tensor_that_the_index_does_not_tell_of_is_damage(path: Path, tmp_path: Path) -> None:
    made = tmp_path / "lies.store"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename == "index.json":
                tree = json.loads(data)
                del tree["clips"][3]["tensors"]["said"]
                tree["clips"][4]["sound_frames"] = 600
                data = json.dumps(tree).encode()
            new.writestr(zipfile.ZipInfo(item.filename), data)
    with Store(made) as store:
        assert store.verify() == ["3", "4"]


@pytest.mark.parametrize("order", "<>")
def test_numbers_of_a_file_are_the_same_in_either_byte_order(listed: Path, tmp_path: Path, order: str) -> None:
    values = np.linspace(-1, 1, 6).reshape(2, 3)
    np.save(tmp_path / "some.npy", values.astype(f"{order}f4"))
    one = replace(table("csv", listed, 2).clips[0], cropped=True, targets={}, splits={})
    one = replace(one, tensors={"some": tmp_path / "some.npy"})
    out = prepare(ClipTable("tiny", ("glad", "sad"), [one]), tmp_path / "tiny.store", SETTINGS).out
    with Store(out) as store:
        np.testing.assert_array_equal(store.read(one.id).tensors["some"], values.astype(np.float32))


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("value:valence", "much", "line 2 has value:valence 'much'; it must be a number"),
        ("value:feeling:v|a", "0.5", r"line 2 has value:feeling:v\|a '0.5'; it must be 2 numbers with \| between them"),
        ("value:feeling:v|a", "0.5|x", "it must be 2 numbers"),
        ("split:official", "exam", "split 'official' has the parts"),
        ("split:official", "train", "split 'official' has the parts train: it must have train, test"),
        ("split:mine", "2", "split 'mine' has folds 2: one is missing"),
        (f"tensor:{LATER}", "0.npy", "tensor 'later_fbank' is a name of our own"),
        ("mood", "1", "expected a header with path,label"),
        ("group:sex,group:sex", "f,f", "names 'sex' twice|each once"),
        ("group:sex:a", "f", "expected a header with path,label"),
        ("label:Odd Name", "1", "expected a header with path,label"),
    ],
)
def test_what_a_list_cannot_say_is_refused(listed: Path, column: str, cell: str, words: str) -> None:
    file = listed.with_name("odd.csv")
    file.write_text(f"path,label,{column}\n0.mp4,glad,{cell}\n1.mp4,sad,{cell}\n")
    with pytest.raises(DataError, match=words):
        table("csv", file, 2)


def test_one_column_may_hold_several_values(listed: Path) -> None:
    file = listed.with_name("feelings.csv")
    file.write_text("path,value:feeling:valence|arousal\n0.mp4,0.5|-0.25\n1.mp4,\n2.mp4,1 | 0\n")
    found = table("csv", file, 2)
    assert {name: (one.kind, one.names) for name, one in found.targets.items()} == {
        "feeling": ("values", ("valence", "arousal"))
    }
    assert [clip.targets for clip in found.clips] == [{"feeling": [0.5, -0.25]}, {}, {"feeling": [1.0, 0.0]}]


def test_a_file_that_holds_no_such_numbers_leaves_the_clip_out(listed: Path, tmp_path: Path) -> None:
    clips = [
        SourceClip(
            f"{k}", listed.with_name(f"{k}.mp4"), "ab"[k % 2], 1 + k % 2, cropped=True, tensors={"landmarks": file}
        )
        for k, file in ((1, listed.with_name("1.npy")), (2, listed.with_name("2.mp4")))
    ]
    summary = prepare(ClipTable("some", ("a", "b"), clips), tmp_path / "some.store", SETTINGS)
    assert summary.left_out == [("2", "unreadable")]


def test_clips_without_a_label_are_told_and_shown(listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = ["path,value:valence", *(f"{k}.mp4,{k / 8}" for k in (1, 2, 3, 4))]
    file = listed.with_name("values.csv")
    file.write_text("\n".join(rows))
    found = table("csv", file, 2)
    assert (found.labels, {*found.targets}) == ((), {"valence"})
    whole = replace(found, clips=[replace(clip, cropped=True) for clip in found.clips])
    summary = prepare(whole, tmp_path / "values.store", SETTINGS)
    print_summary(summary)
    assert "targets: valence (4)" in capsys.readouterr().out
    assert to_dict(summary)["named"] == {"targets": {"valence": 4}}
    write_preview(summary.out, tmp_path / "sheet.html")
    assert "valence 0.125" in (tmp_path / "sheet.html").read_text()
    doctor.store(summary.out)
    assert "targets: valence (values: valence); splits: folds (2 folds)" in " ".join(capsys.readouterr().out.split())
    with Store(summary.out) as store, closing(Loader(store, config(summary.out), ())) as loader:
        (batch,) = loader.test(["2"], 1)
        assert {name: value.tolist() for name, value in batch.targets.items()} == {"valence": [[0.25]]}
