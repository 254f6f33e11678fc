"""Captions and timelines of predictions."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pysubs2
import pytest
from PIL import Image

from mmadfer.data.traces import Trace
from mmadfer.errors import ClipError, ConfigError
from mmadfer.report.timeline import write_timeline
from mmadfer.report.value_plots import write_trace
from mmadfer.runtime import Failure, Prediction
from mmadfer.runtime.captions import check_captions, write_srt, write_vtt
from mmadfer.runtime.stretches import longest_shown, stretches


def segment(start: float, end: float, label: str | None, share: float = 0.0, **more: Any) -> dict[str, Any]:
    shares = {"happy": share, "so & <so>": 1 - share} if label else {}
    return {"start": start, "end": end, "label": label, "probabilities": shares, "notes": [], **more}


def of_video(*segments: dict[str, Any], people: int = 0) -> Prediction:
    told = [{"person": number, "label": "happy", "probabilities": {}, "notes": []} for number in range(1, people + 1)]
    return Prediction("talk.mp4", "happy", {}, list(segments), {}, people=told)


WINDOWS = of_video(
    segment(0, 5, "happy", 0.9), segment(1, 6, "happy", 0.6), segment(2, 7, None), segment(9, 3610.5, "so & <so>", 0.2)
)


def test_a_caption_changes_in_the_middle_of_an_overlap_and_ends_before_a_gap() -> None:
    told = [(one.start, one.end) for one in stretches(WINDOWS.segments[::-1])]
    assert told == [(0, 3), (3, 4), (4, 7), (9, 3610.5)]


def test_webvtt(tmp_path: Path) -> None:
    write_vtt(tmp_path / "talk.vtt", [WINDOWS])
    assert (tmp_path / "talk.vtt").read_text().split("\n") == [
        *("WEBVTT", ""),
        *("00:00:00.000 --> 00:00:03.000", "happy 90%", ""),
        *("00:00:03.000 --> 00:00:04.000", "happy 60%", ""),
        *("00:00:09.000 --> 01:00:10.500", "so &amp; &lt;so&gt; 80%", ""),
    ]


@pytest.mark.parametrize(("ending", "write"), [("vtt", write_vtt), ("srt", write_srt)])
def test_a_reader_of_subtitles_finds_each_person(tmp_path: Path, ending: str, write: Any) -> None:
    own = [segment(k, k + 2, "happy", 0.5 + k / 10, person=person) for person in (1, 2) for k in (0, 2)]
    write(tmp_path / f"talk.{ending}", [of_video(*own, segment(0, 2, None, person=None), people=2)])
    found = [(one.start, one.end, one.plaintext) for one in pysubs2.load(str(tmp_path / f"talk.{ending}"))]
    assert found == [
        (0, 2000, "person 1: happy 50%"),
        (0, 2000, "person 2: happy 50%"),
        (2000, 4000, "person 1: happy 70%"),
        (2000, 4000, "person 2: happy 70%"),
    ]


def test_values_and_a_video_that_cannot_be_read(tmp_path: Path) -> None:
    valued = Prediction("a.mp4", None, {}, [{"start": -0.02, "end": 1, "values": {"valence": -0.256}, "notes": []}], {})
    write_srt(tmp_path / "a.srt", [valued])
    assert (tmp_path / "a.srt").read_text() == "1\n00:00:00,000 --> 00:00:01,000\nvalence -0.26\n"
    write_vtt(tmp_path / "b.vtt", [Failure("b.mp4", ClipError("no face", "no face"))])
    assert (tmp_path / "b.vtt").read_text() == "WEBVTT\n"


def test_what_has_no_length_has_no_caption(tmp_path: Path) -> None:
    write_vtt(tmp_path / "a.vtt", [of_video(segment(-2, -1, "happy", 0.9), segment(0.04, 0.04, "happy", 0.9))])
    assert (tmp_path / "a.vtt").read_text() == "WEBVTT\n"
    write_vtt(tmp_path / "b.vtt", [of_video(segment(-2, 0.001, "happy", 0.9))])
    assert "00:00:00.000 --> 00:00:00.001\nhappy 90%" in (tmp_path / "b.vtt").read_text()


def test_subrip_shows_no_signs_of_its_own(tmp_path: Path) -> None:
    label = "{\\an8}<b>x --> y"
    one = {"start": 0, "end": 1, "label": label, "probabilities": {label: 1.0}, "notes": []}
    write_srt(tmp_path / "a.srt", [of_video(one)])
    assert (tmp_path / "a.srt").read_text() == "1\n00:00:00,000 --> 00:00:01,000\n(\\an8)(b)x --) y 100%\n"


def test_timelines_are_of_those_shown_longest() -> None:
    told = {k: stretches([segment(0, 20, None), segment(20, 21 + k % 10, "happy", 0.5)]) for k in range(1, 13)}
    assert longest_shown(told) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert longest_shown({None: told[1]}) == [None]


def test_captions_are_of_one_video() -> None:
    check_captions([Path("a.vtt")], 1)
    check_captions([Path("a.json"), Path("a.csv")], 2)
    with pytest.raises(ConfigError, match=r"--out a\.SRT takes the captions of one video, and there are 2"):
        check_captions([Path("a.json"), Path("a.SRT")], 2)


def test_a_timeline_has_a_row_for_each_person_and_a_gap_where_nothing_is_said(tmp_path: Path) -> None:
    own = [segment(k, k + 1, None if k == 2 else "happy", 0.7, person=p) for p in (1, 2) for k in range(4)]
    write_timeline(tmp_path / "talk.png", "talk.mp4", of_video(*own, people=2), {})
    write_timeline(tmp_path / "one.png", "talk.mp4", WINDOWS, {})
    with Image.open(tmp_path / "talk.png") as two, Image.open(tmp_path / "one.png") as one:
        assert two.width == one.width
        assert two.height > 1.5 * one.height
        blue = (np.asarray(two.convert("RGB")) == (0x3B, 0x82, 0xC4)).all(2)
    columns = np.flatnonzero(blue.any(0))
    assert np.diff(columns).max() > 0.15 * (columns[-1] - columns[0])  # the third of four seconds is empty
    names = [f"${k}" for k in range(9)]
    many = {"start": 0, "end": 1, "label": "$8", "probabilities": dict.fromkeys(names, 1 / 9), "notes": []}
    write_timeline(tmp_path / "many.svg", "$a$ <b>", Prediction("a", "$8", {}, [many], {}), {})
    written = (tmp_path / "many.svg").read_text()
    write_timeline(tmp_path / "again" / "many.svg", "$a$ <b>", Prediction("a", "$8", {}, [many], {}), {})
    assert "$a$ &lt;b&gt;" in written
    assert (tmp_path / "again" / "many.svg").read_text() == written


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_words_are_drawn_as_they_are(tmp_path: Path, ending: str) -> None:
    title, label = os.fsdecode(b"a\xff.mp4"), r"$\foo$"
    one = {"start": 0, "end": 1, "label": label, "probabilities": {label: 1.0}, "notes": []}
    valued = {"start": 0, "end": 1, "values": {label: 0.5}, "notes": []}
    write_timeline(tmp_path / f"a.{ending}", title, of_video(one), {})
    write_timeline(tmp_path / f"b.{ending}", title, of_video(valued), {label: (0, 1)})
    write_trace(tmp_path / f"c.{ending}", title, Trace(np.arange(2.0), *np.zeros((2, 2, 1))), {label: (0, 1)})
    for name in "abc":
        data = (tmp_path / f"{name}.{ending}").read_bytes()
        assert data.startswith(b"\x89PNG") if ending == "png" else (label.encode() in data and b"\\udcff.mp4" in data)
