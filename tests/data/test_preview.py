import base64
import io
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from make_media import FPS, moving_face, tone, write_video
from PIL import Image

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.media.image import decode_jpeg
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.preparation.preview import FACES, check_page, draw_clips, write_preview
from mmadfer.data.sets import ClipTable, SourceClip
from mmadfer.data.store.record import Clip
from mmadfer.data.store.store import Header, Store, write_store
from mmadfer.errors import DataError

pytestmark = pytest.mark.slow

SETTINGS = PrepareConfig(face_size=64, detect_every=100)
HOSTILE = '"><img src=x onerror=alert(1)>'
SCRIPT = "<script>alert('id')<"


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags, self.texts = list[tuple[str, dict[str, str | None]]](), list[str]()
        self.feed(path.read_text(encoding="utf-8"))
        self.words = " ".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str, name: str) -> list[str]:
        return [attributes.get(name) or "" for found, attributes in self.tags if found == tag]


def fading(seconds: float) -> np.ndarray:
    """A tone that stops in the middle."""
    sound = tone(seconds)
    sound[:, sound.shape[1] // 2 :] = 0
    return sound


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Three clips that are kept, and one that is left out."""
    root = tmp_path_factory.mktemp("preview")
    sounds = {"plain": tone(0.4), "half": fading(1.2), SCRIPT: tone(0.4), "mute": 0 * tone(0.4)}
    for name, sound in sounds.items():
        write_video(root / f"media/{name}.mp4", moving_face(round(sound.shape[1] / 44100 * FPS)), sound)
    (root / "media/broken.mp4").write_bytes(b"no video")
    names = [*sounds, "broken"]
    clips = [
        SourceClip(name, root / f"media/{name}.mp4", ("glad", HOSTILE)[k % 2], k % 2 + 1)
        for k, name in enumerate(names)
    ]
    table = ClipTable("set & <co>", ("glad", HOSTILE, "rare"), [replace(clips[0], subject="<u>who</u>"), *clips[1:]])
    prepare(table, root / "a.store", SETTINGS)
    write_preview(root / "a.store", root / "new/folder/a.html")
    return SimpleNamespace(root=root, store=root / "a.store", html=root / "new/folder/a.html")


@pytest.fixture
def copy(made: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    shutil.copytree(made.root / "media", tmp_path / "media")
    shutil.copy(made.store, tmp_path / "a.store")
    return SimpleNamespace(root=tmp_path, store=tmp_path / "a.store", html=tmp_path / "a.html")


def show(made: SimpleNamespace) -> Page:
    write_preview(made.store, made.html)
    return Page(made.html)


def test_faces_are_those_of_the_store(made: SimpleNamespace) -> None:
    page = Page(made.html)
    with Store(made.store) as store:
        clips = sorted(store.clips.values(), key=lambda clip: (store.labels.index(clip.label), clip.id))
        shown = [base64.b64decode(source.partition("base64,")[2]) for source in page.all("img", "src")]
        assert len(shown) == FACES * len(clips)
        for k, clip in enumerate(clips):
            jpegs = store.read(clip.id).jpegs
            for place, number in ((0, 0), (FACES - 1, clip.frames - 1)):
                found, kept = decode_jpeg(shown[FACES * k + place]), decode_jpeg(jpegs[number])
                assert np.abs(found.astype(int) - kept).mean() < 4


def test_nothing_is_fetched_and_nothing_runs(made: SimpleNamespace) -> None:
    page = Page(made.html)
    links = [value or "" for _, given in page.tags for name, value in given.items() if name in ("src", "href")]
    assert links
    assert all(link.startswith("data:image/") for link in links)
    assert not [name for _, given in page.tags for name in given if name.startswith("on")]
    assert not {tag for tag, _ in page.tags} & {"script", "u", "iframe", "link"}
    assert "default-src 'none'" in made.html.read_text(encoding="utf-8")


def test_everything_is_said_and_escaped(made: SimpleNamespace) -> None:
    words = Page(made.html).words
    for said in ("set & <co>", HOSTILE, SCRIPT, f"{SCRIPT}.mp4", "subject <u>who</u>", "unreadable: 1 clip", "broken"):
        assert said in words
    for said in ("looked for in one frame in 100", "20% margin", "64 x 64 px", "first 5.12 s", "at its own rate"):
        assert said in words


def test_counts_by_label_and_fold(made: SimpleNamespace) -> None:
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", made.html.read_text(encoding="utf-8"))
    cells = [re.findall(r">([^<>]+)</t[hd]>", row) for row in rows]
    assert cells[0] == ["Label", "Fold 1", "Fold 2", "Clips"]
    assert [row[1:] for row in cells[1:]] == [["2", "0", "2"], ["0", "2", "2"], ["0", "0", "0"], ["2", "2", "4"]]


def test_the_waveform_is_that_of_the_sound(made: SimpleNamespace) -> None:
    article = next(part for part in made.html.read_text(encoding="utf-8").split("<article") if "half.mp4" in part)
    points = np.array([pair.split(",") for pair in re.findall(r'points="([^"]+)"', article)[0].split()], float)
    width, high = points[:, 0].max(), points[: len(points) // 2]
    loud, still = (high[part, 1] for part in (high[:, 0] < 0.4 * width, high[:, 0] > 0.6 * width))
    assert width == pytest.approx(480 * 1.2 / 5.12, abs=4)
    assert loud.max() < 12
    assert still.min() > 30


def test_the_filter_bank_ends_where_the_sound_does(made: SimpleNamespace) -> None:
    article = next(part for part in made.html.read_text(encoding="utf-8").split("<article") if "half.mp4" in part)
    width = float(re.findall(r'<image x="0" y="\d+" width="([\d.]+)"', article)[0])
    assert width == pytest.approx(480 * 1.2 / 5.12, abs=4)
    data = re.findall(r'href="data:image/png;base64,([^"]+)"', article)[0]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), float)
    half = picture.shape[1] // 2
    assert picture[:, : half - 4].mean() > picture[:, half + 4 :].mean() + 20


def test_silence_is_said(made: SimpleNamespace) -> None:
    words = Page(made.html).words
    assert words.count("silence: nothing but zeros") == 1
    assert "1 of them with a remark" in words


def test_media_that_are_gone(made: SimpleNamespace, copy: SimpleNamespace) -> None:
    shutil.rmtree(copy.root / "media")
    (copy.root / "media").mkdir()
    (made.root / "media").rename(made.root / "away")  # a copy alone finds them where they were
    try:
        page = show(copy)
    finally:
        (made.root / "away").rename(made.root / "media")
    assert page.words.count("media not found") == 4
    assert len(page.all("img", "src")) == 4 * FACES
    assert not page.all("polygon", "points")


def test_another_sound_in_the_file_is_noticed(copy: SimpleNamespace) -> None:
    write_video(copy.root / "media/plain.mp4", moving_face(50), tone(2.0))
    assert "the filter bank has 0.4" in show(copy).words


def test_a_file_that_cannot_be_read_any_more(copy: SimpleNamespace) -> None:
    (copy.root / "media/plain.mp4").write_bytes(b"no video")
    assert "the sound cannot be read" in show(copy).words


def test_a_path_that_the_system_does_not_take(copy: SimpleNamespace) -> None:
    rewrite(copy, media="x" * 400)
    page = show(copy)
    assert "the sound cannot be read: OSError" in page.words
    assert len(page.all("img", "src")) == FACES


def rewrite(made: SimpleNamespace, **changes: object) -> None:
    """The clip `plain` alone, with other words about it in the index."""
    with Store(made.store) as store:
        clip, record, header = replace(store.clips["plain"], **changes), store.read("plain"), store.header
    made.store.unlink()
    write_store(made.store, replace(header, root=made.root / "media"), [(clip, record)])


def test_what_is_to_be_known_of_a_clip_is_on_the_page(copy: SimpleNamespace) -> None:
    rewrite(copy, note="the sound has <gaps>; another face is there")
    words = show(copy).words
    assert "the sound has <gaps>; another face is there" in words
    assert "1 of them with a remark" in words


def test_sound_in_a_file_of_its_own(copy: SimpleNamespace) -> None:
    frames = copy.root / "media/frames"
    frames.mkdir()
    write_video(copy.root / "media/voices/1.mkv", [], tone(0.4), codecs=("libx264", "pcm_s16le"))
    rewrite(copy, media="frames", sound="voices/1.mkv")
    page = show(copy)
    assert len(page.all("polygon", "points")) == 1
    assert "frames with sound voices/1.mkv" in page.words
    (copy.root / "media/voices/1.mkv").unlink()
    assert "no sound: its file is not there" in show(copy).words


def test_frames_without_sound(copy: SimpleNamespace) -> None:
    (copy.root / "media/frames").mkdir()
    rewrite(copy, media="frames", silent=True)
    words = show(copy).words
    assert "no sound" in words
    assert "silence" not in words


def test_a_damaged_record_is_named(copy: SimpleNamespace) -> None:
    with Store(copy.store) as store:
        jpeg = store.read("plain").jpegs[0]
    data = bytearray(copy.store.read_bytes())
    data[data.index(jpeg) + len(jpeg) // 2] ^= 0xFF
    copy.store.write_bytes(data)
    page = show(copy)
    assert page.words.count("is damaged (its checksum is") == 1
    assert "padding only" not in page.words
    assert len(page.all("img", "src")) == 3 * FACES


def test_every_label_is_drawn() -> None:
    clips = [
        Clip(f"{label}{k:03d}", label, 1, "", 1) for label, n in (("a", 900), ("b", 30), ("c", 2)) for k in range(n)
    ]
    chosen = draw_clips(clips, 50, 0)
    assert chosen == draw_clips(reversed(clips), 50, 0) != draw_clips(clips, 50, 1)
    assert len({clip.id for clip in chosen}) == 50
    assert [sum(clip.label == label for clip in chosen) for label in "abc"] == [24, 24, 2]
    assert len(draw_clips(clips, 2000, 0)) == 932


def test_a_store_without_clips_to_show(tmp_path: Path) -> None:
    write_store(tmp_path / "no.store", Header("none", ("glad",), root=tmp_path), [])
    write_preview(tmp_path / "no.store", tmp_path / "no.html")
    assert "0 of 0 clips" in Page(tmp_path / "no.html").words


def test_faces_that_were_cropped_by_others_are_told_apart(copy: SimpleNamespace) -> None:
    assert "20% margin: 4 clips; stored 64 x 64 px" in show(copy).words
    rewrite(copy, cropped=True)
    words = show(copy).words
    assert "as the set's owners cropped them: 1 clip; stored 64 x 64 px" in words
    assert "followed" not in words


def test_nothing_but_a_contact_sheet_is_overwritten(copy: SimpleNamespace) -> None:
    (copy.root / "notes.html").write_text("<!doctype html><title>Mine</title>")
    (copy.root / "folder.html").mkdir()
    (copy.root / "film.html").symlink_to(copy.root / "media/plain.mp4")
    (copy.root / "a.store.report.json").write_text("{}")
    before = {path: path.read_bytes() for path in copy.root.rglob("*") if path.is_file()}
    for name in ("notes.html", "folder.html", "film.html", "a.store.report.json", "media/plain.mp4", "page", "media"):
        with pytest.raises(DataError, match=name):
            check_page(copy.root / name, copy.store)
    (copy.root / "link.html").symlink_to(copy.store)
    with pytest.raises(DataError, match="overwrite the store"):
        write_preview(copy.store, copy.root / "link.html")
    assert {path: path.read_bytes() for path in before} == before
    write_preview(copy.store, copy.html)
    check_page(copy.html, copy.store)
    check_page(copy.root / "new/a.HTM", copy.store)


def test_where_it_cannot_be_written(copy: SimpleNamespace) -> None:
    with pytest.raises(DataError, match="no store at"):
        write_preview(copy.root / "none.store", copy.html)
    with pytest.raises(DataError, match="overwrite the store"):
        write_preview(copy.store, copy.store)
    with pytest.raises(DataError, match=r"a\.store is a file"):
        write_preview(copy.store, copy.store / "new/a.html")
    assert Store(copy.store).verify() == []
    assert not copy.html.exists()
