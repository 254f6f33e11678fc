import os
import pickle
import resource
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from mmadfer.config.schema import PrepareConfig, SoundConfig
from mmadfer.data.store.record import read_head
from mmadfer.data.store.store import Clip, ClipRecord, Header, Store, check_id, write_store
from mmadfer.errors import DataError

HEADER = Header("tiny", ("glad", "sad"), PrepareConfig(face_size=64), Path("/media"), left_out={"mute": "no sound"})


def record(number: int) -> ClipRecord:
    rng = np.random.default_rng(number)
    jpegs = [rng.bytes(int(size)) for size in rng.integers(1, 900, 5 + number)]
    return ClipRecord(jpegs, rng.random((512, 128), np.float32))


def clip(number: int) -> Clip:
    return Clip(f"sad/ü {number}", HEADER.labels[number % 2], 1 + number % 3, f"{number}.mp4", 5 + number, f"s{number}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_store(tmp_path / "tiny.store", HEADER, ((clip(k), record(k)) for k in (3, 1, 0, 2)))
    return tmp_path / "tiny.store"


def test_what_was_written_is_read(path: Path) -> None:
    with Store(path) as store:
        assert list(store.clips.values()) == [clip(k) for k in range(4)]
        assert (store.labels, store.data_set, store.prepare) == (HEADER.labels, "tiny", HEADER.prepare)
        assert (store.size, store.folds, store.left_out) == ((64, 64), (1, 2, 3), {"mute": "no sound"})
        assert store.media(clip(1).id) == Path("/media/1.mp4")
        assert store.fold(1) == [clip(0).id, clip(3).id]
        for k in range(4):
            read = store.read(clip(k).id)
            assert read.jpegs == record(k).jpegs
            np.testing.assert_array_equal(read.fbank, record(k).fbank)
            assert read.fbank.dtype == np.float32
        assert store.verify() == []


def test_media_are_found_where_store_and_media_were_moved_together(tmp_path: Path) -> None:
    (tmp_path / "here/media").mkdir(parents=True)
    write_store(tmp_path / "here/a.store", replace(HEADER, root=tmp_path / "here/media"), [(clip(0), record(0))])
    (tmp_path / "here/media/0.mp4").touch()
    (tmp_path / "here").rename(tmp_path / "there")
    with Store(tmp_path / "there/a.store") as store:
        assert store.media(clip(0).id) == tmp_path / "there/media/0.mp4"


def test_a_store_that_was_copied_out_of_its_media_finds_them(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media/0.mp4").touch()
    write_store(tmp_path / "media/a.store", replace(HEADER, root=tmp_path / "media"), [(clip(0), record(0))])
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "media/a.store", tmp_path / "copy")
    with Store(tmp_path / "copy/a.store") as store:
        assert store.media(clip(0).id) == tmp_path / "media/0.mp4"


def test_a_closed_store_says_so(path: Path) -> None:
    store = Store(path)
    store.close()
    for use in (store.read, store.raw):
        with pytest.raises(DataError, match=r"tiny\.store is closed"):
            use(clip(0).id)


def test_a_system_that_gives_less_at_a_time_is_asked_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, start: pread(file, min(size, 1000), start))
    with Store(path) as store:
        assert store.read(clip(0).id).jpegs == record(0).jpegs
        assert store.read(clip(0).id, [4]).jpegs == record(0).jpegs[4:5]
        assert store.verify() == []


def test_same_input_gives_the_same_bytes(path: Path) -> None:
    write_store(path.with_name("again"), HEADER, [(clip(k), record(k)) for k in (3, 1, 0, 2)])
    assert path.read_bytes() == path.with_name("again").read_bytes()


def test_any_zip_tool_can_check_it(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert "clips/sad/ü 1.safetensors" in archive.namelist()


def test_it_is_pickled_as_its_path(path: Path) -> None:
    with Store(path) as store:
        data = pickle.dumps(store)
        assert len(data) < 1000
        assert pickle.loads(data).read(clip(2).id).jpegs == store.read(clip(2).id).jpegs


def test_a_flipped_byte_is_found_in_every_clip(path: Path) -> None:
    whole = path.read_bytes()
    for k in range(4):
        damaged = bytearray(whole)
        damaged[whole.index(record(k).jpegs[2]) + 1] ^= 1
        path.write_bytes(damaged)
        with Store(path) as store:
            assert store.verify() == [clip(k).id]
            with pytest.raises(DataError, match=rf"sad/ü {k}.*damaged.*checksum.*mmadfer prepare"):
                store.read(clip(k).id)


def test_any_flipped_byte_of_the_index_is_found_or_harmless(path: Path) -> None:
    whole = path.read_bytes()
    start = whole.rindex(b'"format"') - 100
    messages = set()
    for position in range(start, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            store = Store(path)
        except DataError as error:
            messages.add(str(error).partition(" (")[0])
        else:
            assert set(store.verify()) <= set(store.clips)
            assert list(store.clips.values()) == [clip(k) for k in range(4)], position
    assert messages == {f"{path} is not a whole mmadfer store"}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_store_that_is_cut_off_is_refused(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"tiny.store is not a whole mmadfer store .*mmadfer prepare"):
        Store(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no store at .*none"):
        Store(tmp_path / "none")
    with pytest.raises(DataError, match=r"no store at .*Is a directory"):
        Store(tmp_path)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("index.json", "[1]")
    with pytest.raises(DataError, match="not a whole mmadfer store"):
        Store(tmp_path / "other.zip")


def test_unknown_clips_and_folds_are_named(path: Path) -> None:
    with Store(path) as store:
        with pytest.raises(DataError, match=r"no clip 'mute'.*no sound"):
            store.read("mute")
        with pytest.raises(DataError, match="no fold 4; it has 1, 2, 3"):
            store.fold(4)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "a/../b", "a//b", "..", "a\\b", "a\nb", "a\0", "x" * 201, "a/."])
def test_ids_that_no_archive_should_hold(name: str) -> None:
    with pytest.raises(DataError, match="cannot be stored"):
        check_id(name)


def test_nothing_is_written_of_a_wrong_list(tmp_path: Path) -> None:
    for second, word in ((clip(0), "twice"), (replace(clip(1), label="cross"), "none of glad, sad")):
        with pytest.raises(DataError, match=word):
            write_store(tmp_path / "store", HEADER, [(clip(0), record(0)), (second, record(1))])
    assert list(tmp_path.iterdir()) == []


WRITE_LIMITED = """
import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])
import test_store as t
from mmadfer.errors import DataError
try:
    t.write_store(Path(sys.argv[2]), t.HEADER, ((t.clip(k), t.record(k)) for k in range(4)))
except DataError as error:
    print(error); sys.exit(2)
"""


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    out = tmp_path / "out.store"
    done = subprocess.run(
        [sys.executable, "-c", WRITE_LIMITED, str(Path(__file__).parent), str(out)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "out.store could not be written" in done.stdout
    assert "Make room" in done.stdout
    assert (done.stderr, list(tmp_path.iterdir())) == ("", [])


@pytest.mark.parametrize("frames", [[0], [7], [0, 7], [7, 3, 3, 0], [1, 2, 3], [], list(range(8)), [5] * 4])
def test_some_frames_are_read_in_the_order_asked(path: Path, frames: list[int]) -> None:
    with Store(path) as store:
        read, whole = store.read(clip(3).id, frames), store.read(clip(3).id)
        assert read.jpegs == [whole.jpegs[k] for k in frames]
        np.testing.assert_array_equal(read.fbank, whole.fbank)
        for wrong in (8, -1):
            with pytest.raises(IndexError, match="has 8 frames"):
                store.read(clip(3).id, [*frames, wrong])


def test_few_calls_read_only_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jpegs = [np.random.default_rng(k).bytes(12_000) for k in range(65)]
    write_store(tmp_path / "a.store", HEADER, [(replace(clip(0), frames=65), ClipRecord(jpegs, record(0).fbank))])
    calls, pread = list[int](), os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, start: (calls.append(size), pread(file, size, start))[1])
    with Store(tmp_path / "a.store") as store:
        assert store.read(clip(0).id, [60, 2, 3, 5, 61, 2]).jpegs == [jpegs[k] for k in (60, 2, 3, 5, 61, 2)]
    head, *rest = calls
    assert head < 262_144 + 2_000
    assert rest == [48_000, 24_000]  # frame 4 lies between two that are wanted


def test_any_reader_of_safetensors_reads_a_record(path: Path) -> None:
    with Store(path) as store:
        tensors = load(store.raw(clip(2).id))
        assert set(tensors) == {"crcs", "offsets", "times", "fbank", "jpeg"}
        first, last = tensors["offsets"][:2]
        assert tensors["jpeg"][first:last].tobytes() == store.read(clip(2).id).jpegs[0]


def test_every_damaged_byte_is_noticed_by_who_uses_it_and_by_verify(tmp_path: Path) -> None:
    """One clip, one flipped byte in turn all over the record: beside its ZIP header, in its head and in each frame."""
    small = ClipRecord(record(0).jpegs, np.ones((4, 2), np.float32))
    tiny = PrepareConfig(face_size=64, sound=SoundConfig(frames=4, mels=2))
    write_store(tmp_path / "a.store", replace(HEADER, prepare=tiny), [(clip(0), small)])
    whole = (tmp_path / "a.store").read_bytes()
    with Store(tmp_path / "a.store") as store:
        place, name = store._places[clip(0).id], clip(0).id
        offsets = read_head(store.raw(name), place.size).offsets
    with (tmp_path / "a.store").open("r+b", buffering=0) as file, Store(tmp_path / "a.store") as store:
        for position in range(place.start + place.size):
            file.seek(position)
            file.write(bytes([whole[position] ^ 0x10]))
            assert store.verify() == [name], position
            inside = position - place.start
            for k in range(5):
                uses = 0 <= inside < place.head or offsets[k] <= inside - place.head < offsets[k + 1]
                assert _fails(store, name, [k]) == uses, (position, k)
            assert _fails(store, name, None) == (inside >= 0)
            file.seek(position)
            file.write(whole[position : position + 1])


def _fails(store: Store, name: str, frames: list[int] | None) -> bool:
    try:
        store.read(name, frames)
    except DataError as error:
        return "is damaged" in str(error)
    return False


def test_a_store_of_another_version_is_told_apart_from_a_damaged_one(tmp_path: Path) -> None:
    for version, word in ((1, "an older version.*mmadfer prepare"), (99, "a newer version")):
        with zipfile.ZipFile(tmp_path / "a.store", "w") as archive:
            archive.writestr("index.json", f'{{"format": "mmadfer-store", "version": {version}}}')
        with pytest.raises(DataError, match=rf"a\.store was prepared by {word}"):
            Store(tmp_path / "a.store")
