"""Rolling windows of live sources: the answers of windows of a file with the same pictures and sound."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from export_setup import CONTRACT
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from make_media import FPS, RATE, grey, moving_face, portrait, write_video

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.faces import detection
from mmadfer.data.live import LiveAsked, _Rolling
from mmadfer.data.live_items import Picture, checked
from mmadfer.data.media.frames import MemoryPicture
from mmadfer.data.video_windows import Windows
from mmadfer.errors import ClipError, ConfigError
from mmadfer.runtime import LiveFrame, LiveSound, Prediction, Recogniser

EVERY_THIRD = PrepareConfig(face_size=64, detect_every=3)
Items = Iterator[LiveFrame | LiveSound]


def chirp(seconds: float) -> np.ndarray:
    """Sound of which no part is like another."""
    times = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * (200 + 150 * times) * times)).astype(np.float32)[None]


def films(path: Path, pictures: list[np.ndarray], sound: np.ndarray | None) -> Path:
    """A file without loss."""
    return write_video(path, pictures, sound, codecs=("ffv1", "flac"), pixels="bgr0")


def decoded(path: Path, kind: str) -> Items:
    with av.open(str(path)) as container:
        if kind == "audio" and not container.streams.audio:
            return
        packer = av.AudioResampler(format="fltp")
        for frame in container.decode(**{kind: 0}):
            if isinstance(frame, av.VideoFrame):
                yield LiveFrame(frame.time, frame.to_ndarray(format="rgb24"))
            else:
                (part,) = packer.resample(frame)
                yield LiveSound(frame.time, part.to_ndarray(), frame.sample_rate)


def live(path: Path) -> Items:
    """The pictures and the sound of a file in order of time."""
    return merge(decoded(path, "video"), decoded(path, "audio"), key=lambda item: item.time)


def pictures(count: int, begin: float = 0) -> list[LiveFrame]:
    return [LiveFrame(begin + k / FPS, image) for k, image in enumerate(moving_face(count))]


def sounds(seconds: float, begin: float = 0, each: int = 2205) -> list[LiveSound]:
    sound = chirp(seconds)
    starts = range(0, sound.shape[1], each)
    return [LiveSound(begin + start / RATE, sound[:, start : start + each], RATE) for start in starts]


def in_order(*parts: Sequence[LiveFrame | LiveSound]) -> list[Any]:
    return sorted(chain(*parts), key=lambda item: item.time)


@pytest.fixture(scope="module")
def recogniser(onnx_file: Path) -> Recogniser:
    found = Recogniser(onnx_file)
    found.backend.contract = CONTRACT.model_copy(update={"prepare": EVERY_THIRD})
    return found


@pytest.fixture
def changed(onnx_file: Path) -> Any:
    """A recogniser whose preparation differs."""

    def make(**update: Any) -> Recogniser:
        found = Recogniser(onnx_file)
        found.backend.contract = CONTRACT.model_copy(update={"prepare": EVERY_THIRD.model_copy(update=update)})
        return found

    return make


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5.24 s: a face, but for 1.6 to 3 s, with sound up to 4.2 s; the last window ends between two hops."""
    images = moving_face(131, step=2)
    images[40:75] = grey(35)
    return films(tmp_path_factory.mktemp("live") / "scenes.mkv", images, chirp(4.2))


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces in a file are looked for in one picture at a time, as in a live source, and not in 16 together."""
    monkeypatch.setitem(detection._PICTURES_PER_BATCH, "cpu", 1)


def assert_same(streamed: list[Prediction], whole: Prediction) -> None:
    """Bit for bit, with what is told of each; but for notes of the whole file."""
    ends = [note for note in whole.segments[-1]["notes"] if not note.startswith("the sound has")]
    segments = [*whole.segments[:-1], whole.segments[-1] | {"notes": ends}]
    assert [one.segments for one in streamed] == [[segment] for segment in segments]
    assert [(one.label, one.probabilities, one.notes) for one in streamed] == [
        (one["label"], one["probabilities"], one["notes"]) for one in segments
    ]


@pytest.mark.parametrize(
    "update",
    [
        {},
        {"face_box": "union", "face_size": 32},
        {"mafw_frame_order": "published"},
        {"no_sound": "silence"},
        {"sound": EVERY_THIRD.sound.model_copy(update={"rate": 16000})},
    ],
)
@pytest.mark.usefixtures("one_by_one")
def test_live_windows_are_those_of_a_file(changed: Any, scenes: Path, update: dict[str, Any]) -> None:
    found = changed(**update)
    streamed = list(found.stream(live(scenes), window=1, hop=0.4, leave_out=False))
    whole = found(scenes, window=1, hop=0.4)
    assert len(whole.segments) == 12
    assert_same(streamed, whole)
    if not update:
        assert [one.label is None for one in streamed][4:7] == [True, True, False]


def test_faces_looked_for_together_move_a_probability_by_little(recogniser: Recogniser, scenes: Path) -> None:
    """The last digit of a box depends on what else is in its batch; crops then differ by single grey levels."""
    streamed = list(recogniser.stream(live(scenes), window=1, hop=0.4, leave_out=False))
    for one, segment in zip(streamed, recogniser(scenes, window=1, hop=0.4).segments, strict=True):
        assert one.label == segment["label"]
        assert list(one.probabilities.values()) == pytest.approx(list(segment["probabilities"].values()), abs=1e-4)


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("seconds", [0.8, 1.0, 1.04, 2.2])
def test_the_end_of_a_source_is_that_of_a_file(recogniser: Recogniser, tmp_path: Path, seconds: float) -> None:
    path = films(tmp_path / "a.mkv", moving_face(round(seconds * FPS)), chirp(seconds))
    assert_same(
        list(recogniser.stream(live(path), window=1, hop=0.5, leave_out=False)), recogniser(path, window=1, hop=0.5)
    )


def test_cropped_pictures_and_looks_from_both_sides(onnx_file: Path, tmp_path: Path) -> None:
    found = Recogniser(onnx_file, flips=True, clips=2)
    path = films(tmp_path / "a.mkv", moving_face(40), chirp(1.6))
    streamed = list(found.stream(live(path), window=1, hop=0.5, leave_out=False, cropped=True))
    assert_same(streamed, found(path, window=1, hop=0.5, cropped=True))


def small_face(shift: int) -> np.ndarray:
    """1280 x 720 with a face 30 pixels wide."""
    image = Image.fromarray(np.full((720, 1280, 3), 120, np.uint8))
    image.paste(Image.fromarray(portrait()).resize((128, 96)), (700 + shift, 300))
    return np.asarray(image)


@pytest.mark.usefixtures("one_by_one")
def test_faces_in_large_pictures_are_found_as_in_those_of_a_file(recogniser: Recogniser, tmp_path: Path) -> None:
    large = [small_face(2 * k) for k in range(20)]
    path = films(tmp_path / "a.mkv", large, chirp(0.8))
    streamed = list(recogniser.stream(live(path), window=0.5, hop=0.2, leave_out=False))
    whole = recogniser(path, window=0.5, hop=0.2)
    assert any("small" in note for note in whole.notes)
    assert_same(streamed, whole)


def test_a_clock_may_begin_anywhere(recogniser: Recogniser) -> None:
    items = in_order(pictures(40), sounds(1.6))
    first = list(recogniser.stream(items, window=1, hop=0.5, leave_out=False))
    moved = [item._replace(time=item.time + 1_700_000_000) for item in items]
    later = list(recogniser.stream(moved, window=1, hop=0.5, leave_out=False))
    assert [one.probabilities for one in later] == [one.probabilities for one in first]
    assert later[0].segments[0]["start"] == 1_700_000_000


def test_what_a_window_lacks_is_its_reason(recogniser: Recogniser) -> None:
    """Pictures from 0 to 1 s and from 4 s on, sound from 0 to 5 s."""
    items = in_order(pictures(25), pictures(50, 4), sounds(5))
    told = list(recogniser.stream(items, window=1, hop=1, leave_out=False, name="camera 1"))
    assert [one.video for one in told] == ["camera 1"] * 6
    assert [one.notes[0] if one.notes else "" for one in told] == [
        *("", "no pictures", "no pictures", "no pictures", ""),
        "no sound in this part of the video",
    ]
    assert [one.label is None for one in told] == [False, True, True, True, False, True]
    assert told[1].probabilities == {}
    silent = list(recogniser.stream(pictures(30), window=1, hop=1, leave_out=False))
    assert [one.notes for one in silent] == [["no sound in this part of the source"]] * 2


def test_sound_that_stops_and_goes_on_has_silence_between(recogniser: Recogniser) -> None:
    items = in_order(pictures(75), sounds(0.6), sounds(1, 1.4))
    told = list(recogniser.stream(items, window=2.4, hop=2.4, leave_out=False))
    assert told[0].label is not None
    assert told[0].notes == ["no sound from 0.6 to 1.4 s, 0.8 s: silence in its place"]


def test_no_source_and_no_pictures_give_no_windows(recogniser: Recogniser) -> None:
    for leave_out in (False, True):
        assert not [*recogniser.stream([], leave_out=leave_out)]
        assert not [*recogniser.stream(sounds(8), window=1, hop=1, leave_out=leave_out)]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([np.zeros(3)], "gave ndarray: give LiveFrame"),
        ([LiveFrame(0, np.zeros((4, 4), np.uint8))], r"gave uint8 \(4, 4\) at 0.000 s: a picture is uint8 \(H, W, 3\)"),
        ([LiveFrame(0, np.zeros((4, 4, 3), np.float32))], "float32"),
        ([LiveSound(0, np.zeros(8, np.float32), RATE)], r"sound float32 \(channels, n\)"),
        ([LiveSound(0, np.zeros((1, 8), np.float32), 0)], "sound at 0 Hz"),
        ([LiveSound(0, np.zeros((1, 8), np.float32), 10)], "1 channels at 10 Hz"),
        ([*sounds(0.1), LiveSound(0.2, np.zeros((2, 8), np.float32), RATE)], "changes from 1 channels"),
        ([*pictures(3), *pictures(1)], "at 0.000 s behind one at 0.080 s: give them in order of time"),
        ([*pictures(3), *pictures(1, 1e6)], "begin a new stream"),
        ([LiveFrame(float("nan"), portrait())], "order of time"),
        ([LiveFrame(None, portrait())], "at None: its time is a number of seconds"),
        ([LiveSound("1", np.zeros((1, 8), np.float32), RATE)], "at '1': its time is a number of seconds"),
        ([LiveSound(0, np.zeros((1, 8), np.float32), None)], "sound at None Hz: its rate is"),
        ([LiveSound(0, np.zeros((1, 8), np.float32), 8000.5)], "sound at 8000.5 Hz: its rate is a whole number"),
    ],
)
@pytest.mark.parametrize("leave_out", [False, True])
def test_items_that_cannot_be_are_refused(
    recogniser: Recogniser, items: list[Any], words: str, leave_out: bool
) -> None:
    with pytest.raises(ClipError, match=words):
        list(recogniser.stream(items, window=1, hop=1, leave_out=leave_out))


def test_models_and_windows_that_cannot_be_live_are_refused(onnx_file: Path) -> None:
    with pytest.raises(ConfigError, match="--window 5 --hop 1"):
        Recogniser(onnx_file).stream([], window=1, hop=2)
    with pytest.raises(ConfigError, match="over a whole video: open it without faces"):
        Recogniser(onnx_file, faces="all").stream([])


def test_an_error_of_the_source_comes_after_the_windows_before_it(recogniser: Recogniser) -> None:
    def breaking() -> Items:
        yield from in_order(pictures(30), sounds(1.2))
        raise OSError("the camera is gone")

    for leave_out in (False, True):
        told = recogniser.stream(breaking(), window=1, hop=1, leave_out=leave_out)
        assert next(told).label is not None
        with pytest.raises(OSError, match="the camera is gone"):
            next(told)


def paced(items: Sequence[LiveFrame | LiveSound]) -> Items:
    """The items, each at its own time."""
    start = time.monotonic()
    for item in items:
        time.sleep(max(0.0, start + item.time - time.monotonic()))
        yield item


def test_a_model_that_is_fast_enough_leaves_no_window_out(recogniser: Recogniser) -> None:
    items = in_order(pictures(75), sounds(3))
    recogniser.warm()
    with recogniser.stream(paced(items), window=1, hop=1) as told:
        live_ = list(told)
    assert told.left_out == 0
    waited = list(recogniser.stream(items, window=1, hop=1, leave_out=False))
    assert [one.segments for one in live_] == [one.segments for one in waited]


class Slow:
    """A backend that computes its answer over and over for so many seconds."""

    def __init__(self, backend: Any, seconds: float) -> None:
        self._backend, self._seconds = backend, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def logits(self, *arrays: np.ndarray) -> np.ndarray:
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            found = self._backend.logits(*arrays)
        return np.asarray(found)


def test_of_a_slow_model_whole_windows_are_left_out_and_counted(onnx_file: Path, recogniser: Recogniser) -> None:
    items = in_order(pictures(100), sounds(4))
    slow = Recogniser(onnx_file)
    slow.backend.contract = recogniser.contract
    slow.batches.backend = Slow(slow.backend, 0.7)  # a hop has 0.2 s
    with slow.stream(paced(items), window=1, hop=0.2) as stream:
        told = list(stream)
    starts = [round(one.segments[0]["start"] / 0.2) for one in told]
    assert stream.left_out == 16 - len(told) >= 8  # 16 windows in 4 s
    assert starts == sorted(set(starts))
    assert starts[-1] == 15  # the end of the source is never left out
    assert any("windows before it were left out" in note for one in told for note in one.notes)
    every = list(recogniser.stream(items, window=1, hop=0.2, leave_out=False))
    assert [one.segments for one in told] == [every[k].segments for k in starts]


def test_no_more_than_a_window_and_a_hop_are_held(recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source of 20 s, of which pictures and sound are let go."""
    kept = list[tuple[int, float]]()
    from mmadfer.data import live as module

    class Watched(module._Rolling):
        def add(self, item: Any) -> None:
            super().add(item)
            held = sum(piece.shape[1] for piece in self._sounds._held) / RATE if self._sounds else 0.0
            kept.append((len(self._frames), held))

    monkeypatch.setattr(module, "_Rolling", Watched)
    items = in_order([LiveFrame(k / FPS, portrait()) for k in range(20 * FPS)], sounds(20))
    told = list(recogniser.stream(items, window=2, hop=1, leave_out=False))
    assert len(told) == 19
    assert max(frames for frames, _ in kept) <= 3 * FPS + 1
    assert max(seconds for _, seconds in kept) < 3.2


@pytest.mark.parametrize(("seconds", "hop"), [(1, 1 / 3), (1 / 3, 1 / 3), (2 / 3, 1 / 7), (0.5, 0.1)])
@pytest.mark.parametrize("at_once", [1, 50])
def test_windows_go_forward_also_where_hops_are_no_milliseconds(seconds: float, hop: float, at_once: int) -> None:
    """Pictures of 30 per second with times in milliseconds, of which some come together: the newest are wanted."""
    windows = Windows(seconds, hop)
    asked = LiveAsked(EVERY_THIRD, windows, keep=lambda n: [0, n // 2], name=Path("a"), mute=True, cropped=True)
    rolling = _Rolling(asked, newest=True)
    starts, left_out = list[float](), 0
    for k in range(150):
        time_ = round(k / 30, 3)
        rolling.add(Picture(k, MemoryPicture(portrait(), time_)))
        if k % at_once == at_once - 1:
            while rolling.complete:
                window, before = rolling.next()
                assert before >= 0
                starts.append(window.start)
                left_out += before
    every = [round(k * hop, 3) for k in range(200)]
    assert starts == sorted(set(starts))
    assert left_out + len(starts) == sum(round(start + seconds, 3) <= time_ for start in every)
    assert set(starts) <= set(every)


def test_windows_of_a_file_are_those_of_its_hops() -> None:
    for seconds, hop, end in ((1, 1 / 3, 5.0), (1, 2 / 3, 1.667), (0.5, 0.1, 1.1), (1, 1, 3), (1, 0.04, 1.041)):
        spans = Windows(seconds, hop).between(0, end)
        last = round(end - seconds, 3)
        starts = [start for k in range(100) if (start := round(k * hop, 3)) <= last]
        assert spans == [(start, round(start + seconds, 3)) for start in sorted({*starts, last})]


def test_items_may_be_changed_when_they_are_taken() -> None:
    samples, image = np.ones((1, 8), np.float32), portrait().copy()
    sound, picture = checked([LiveSound(0, samples, RATE), LiveFrame(0, image)], Path("a"))
    samples[:], image[:] = 0, 0
    assert isinstance(sound, LiveSound)
    assert isinstance(picture, Picture)
    assert sound.samples.all()
    np.testing.assert_array_equal(picture.picture.rgb(), portrait())


def test_closing_ends_the_thread_and_the_reading(recogniser: Recogniser) -> None:
    read = list[float]()
    endless = (LiveFrame(k / FPS, portrait()) for k in range(10**9))

    def slowly() -> Items:
        for item in endless:
            time.sleep(0.001)
            read.append(item.time)
            yield item

    stream = recogniser.stream(slowly(), window=1, hop=1)
    next(stream)
    stream.close()
    count = len(read)
    time.sleep(0.05)
    assert len(read) == count
    assert not [one for one in threading.enumerate() if one.name == "read-live"]
    assert not list(stream)
