"""What a notebook shows of a prediction."""

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from mmadfer.runtime import Prediction
from mmadfer.runtime.card import MOST_NOTES, MOST_PIECES
from mmadfer.utils.colours import PALETTE

HOSTILE = "</title><script>alert('1')</script>&\"<img src=x onerror=1>\u202e\udcff\0"
VOID = ("br", "img", "link")


class Page(HTMLParser):
    """Which elements there are, with their attributes, and what is written; elements must be closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements, self.text, self._open = list[tuple[str, dict[str, str | None]]](), "", list[str]()
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def those(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def segment(start: float, label: str | None = "happy", share: float = 0.75, **more: Any) -> dict[str, Any]:
    shares = {"happy": share, "sad": 1 - share} if label else {}
    return {"start": start, "end": start + 2, "label": label, "probabilities": shares, "notes": ["no face"], **more}


def said(*segments: dict[str, Any], **more: Any) -> Prediction:
    return Prediction("talk.mp4", "happy", {"sad": 0.25, "happy": 0.75}, list(segments), {}, **more)


def page(prediction: Prediction) -> Page:
    html = prediction._repr_html_()
    html.encode()  # a notebook is written as UTF-8
    return Page(html)


def test_a_prediction_shows_its_label_bars_and_time() -> None:
    shown = page(said(segment(0), segment(1, "sad", 0.1), segment(2, None)))
    assert "happy 75%" in shown.text
    assert shown.text.index("75.0%") < shown.text.index("25.0%")
    first, second, third = shown.those("rect")
    assert (first["x"], first["width"], first["fill"]) == ("0.00", "240.00", PALETTE[0])  # 0 to 1.5 of 4 s, of 640
    assert (second["height"], second["fill"]) == ("43.20", PALETTE[1])  # of 48
    assert third["fill"] == "none"
    assert "no face" in shown.text


def test_what_a_label_or_a_name_holds_is_never_read_as_html() -> None:
    notes = [HOSTILE] * (MOST_NOTES + 2)
    part = segment(0) | {"label": HOSTILE, "probabilities": {HOSTILE: 1.0}, "notes": [HOSTILE]}
    one = Prediction(HOSTILE, HOSTILE, {HOSTILE: 1.0}, [part, segment(1, None) | {"notes": notes}], {}, notes)
    values = Prediction(HOSTILE, None, {}, [segment(0) | {"values": {HOSTILE: 1.0}}] * 2, {}, notes, {HOSTILE: 1.0})
    told = {"person": HOSTILE, "start": 0.0, "end": 2.0, "label": HOSTILE, "probabilities": {HOSTILE: 1.0}}
    several = replace(one, people=[told | {"notes": notes}], segments=[part | {"person": HOSTILE}] * 2)
    for prediction in (one, values, several, replace(one, sentence=HOSTILE)):
        shown = page(prediction)
        tags = {tag for tag, _ in shown.elements}
        assert tags <= {"div", "span", "b", "bdi", "i", "ul", "li", "svg", "rect", "polyline", "title"}
        assert all(not name.startswith("on") and name not in ("src", "href") for _, a in shown.elements for name in a)
        assert "alert('1')" in shown.text
        assert not {"\u202e", "\udcff", "\0"} & set(shown.text)
    assert "and 2 more" in page(one).text


def test_each_of_several_people_has_a_row() -> None:
    people = [
        {"person": number, "start": 0, "end": 4, "label": label, "probabilities": {label: 0.5}, "notes": []}
        for number, label in ((1, "happy"), (3, "sad"))
    ]
    parts = [segment(start, person=number) for start in (0, 2) for number in (1, 3)]
    shown = page(Prediction("a.mp4", None, {}, parts, {}, people=people))
    assert "person 1: happy 50%" in shown.text
    assert "person 3: sad 50%" in shown.text
    assert len(shown.those("svg")) == 2


@pytest.mark.parametrize("series", [{}, {"seconds": [0.0, 1.0, 2.0], "values": {"valence": [0.0, 1.0, 0.5]}}])
def test_values_are_lines(series: dict[str, Any]) -> None:
    parts = [{"start": s, "end": s + 1, "values": {"valence": s / 2}, "notes": []} for s in range(3)]
    shown = page(Prediction("a.mp4", None, {}, [*parts], {}, values={"valence": 0.5}, series=series))
    assert "valence 0.50" in shown.text
    (line,) = shown.those("polyline")
    assert str(line["points"]).split(" ")[0] == ("0.00,48.00" if series else "106.67,48.00")


def test_of_a_long_video_neighbours_share_a_piece() -> None:
    shown = page(said(*(segment(k) for k in range(10 * MOST_PIECES))))
    assert len(shown.those("rect")) == MOST_PIECES


def test_one_segment_and_none_have_no_drawing() -> None:
    for prediction in (said(segment(0)), said()):
        assert not page(prediction).those("svg")
    empty = Prediction("a.mp4", None, {}, [segment(0, None)], {}, ["no face"])
    assert "no prediction" in page(empty).text
