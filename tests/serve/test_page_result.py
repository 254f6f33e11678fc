"""The page in a browser: upload, progress, result, people, errors, cancel; by mouse, keyboard and screen reader."""

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_media import grey, tone, write_video
from page_setup import Visit, chromium
from serve_setup import Served

from mmadfer import Recogniser
from mmadfer.runtime.stretches import said, stretches
from mmadfer.serve.law import NOTICE
from mmadfer.utils.colours import PALETTE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(server: Served) -> str:
    return server.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launch:
        yield launch()


@pytest.fixture(scope="module")
def visit(browser: Any, address: str) -> Iterator[Visit]:
    """One page for the tests that leave it as it was."""
    with Visit(browser, address, color_scheme="light").ready() as opened:
        yield opened
        assert opened.wrong == []
        assert opened.elsewhere() == []


def test_it_says_what_the_law_says(visit: Visit) -> None:
    assert visit.text(".law p") == NOTICE


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes_are_chosen_and_kept_and_keep_nobody_out(browser: Any, address: str, theme: str) -> None:
    other = {"light": "dark", "dark": "light"}[theme]
    with Visit(browser, address, color_scheme=other).ready() as opened:
        background = "() => getComputedStyle(document.body).backgroundColor"
        of_system = opened.js(background)
        opened.page.select_option("#theme", theme)
        chosen = opened.js(background)
        assert chosen != of_system
        opened.page.reload()
        assert opened.ready().js(background) == chosen
        assert opened.barriers() == []
        opened.page.click("#tab-live")
        assert opened.barriers() == []


def test_a_video_is_predicted(visit: Visit, model: Path, video: Path) -> None:
    expected = Recogniser(model)(video, window=1, hop=0.5)
    page = visit.page
    visit.predict(video, window="1", hop="0.5")
    visit.finished()
    assert visit.text("#whole") == f"The whole: {said(expected.to_dict())}"
    assert page.evaluate("document.activeElement.id") == "result-title"
    first = expected.segments[0]
    assert visit.text("#now") == said(first)
    bars = [" ".join(one.split()) for one in page.locator("#bars li").all_inner_texts()]
    assert [bar.split()[0] for bar in bars] == list(first["probabilities"])
    assert "Finished." in visit.page.locator("#status").inner_text()
    assert page.locator("#table-body tr").count() == len(expected.segments)
    assert visit.barriers() == []


def test_the_timeline_jumps(visit: Visit) -> None:
    page, line = visit.page, visit.page.locator("#timeline")
    end = float(line.get_attribute("aria-valuemax") or 0)
    playing = "() => document.getElementById('video').currentTime"
    line.click(position={"x": line.bounding_box()["width"] / 2, "y": 20})  # type: ignore[index]
    assert visit.js(playing) == pytest.approx(end / 2, abs=0.05)
    line.focus()
    page.keyboard.press("Home")
    assert visit.js(playing) == 0
    page.keyboard.press("ArrowRight")
    assert 0 < visit.js(playing) == pytest.approx(float(line.get_attribute("aria-valuenow") or 0), abs=0.01)
    page.keyboard.press("End")
    assert float(line.get_attribute("aria-valuenow") or 0) == pytest.approx(end, abs=0.1)
    assert "%" in (line.get_attribute("aria-valuetext") or "")
    page.keyboard.press("Home")


def test_the_box_is_where_the_face_is(visit: Visit) -> None:
    box, stage = (visit.page.locator(name).bounding_box() for name in (".box", "#stage"))
    assert box is not None
    assert stage is not None
    middle = (box["x"] + box["width"] / 2 - stage["x"]) / stage["width"]
    assert 0.3 < middle < 0.7  # of the toy face
    assert 0.2 < box["height"] / stage["height"] < 0.95


@pytest.mark.parametrize(("kind", "begins"), [("json", "["), ("csv", "video,"), ("vtt", "WEBVTT")])
def test_results_are_downloaded(visit: Visit, kind: str, begins: str) -> None:
    with visit.page.expect_download() as waiting:
        visit.page.click(f"#downloads [data-kind={kind}]")
    assert waiting.value.suggested_filename == f"prediction.{kind}"
    text = Path(waiting.value.path()).read_text()
    assert text.lstrip().startswith(begins if kind != "json" else ("[", "{"))
    if kind == "json":
        assert visit.text("#whole").removeprefix("The whole: ").split()[0] in json.dumps(json.loads(text))


def test_a_second_video_has_its_own_result(visit: Visit, pair: Path) -> None:
    page = visit.page
    visit.predict(pair, window="1", hop="1", faces="all")
    visit.has("#result-title", "pair.mp4")
    visit.finished()
    assert visit.text("#whole") == "2 people"
    assert page.locator("#people input").count() == 2
    assert page.locator(".box").count() == 2
    assert visit.text("#now").startswith("person 1: ")
    page.locator("#timeline [data-row='1']").first.click(position={"x": 60, "y": 30})
    assert page.locator("#people input").nth(1).is_checked()
    assert visit.text("#now").startswith("person 2: ")
    page.locator("#people input").nth(0).check()
    assert visit.text("#now").startswith("person 1: ")
    assert visit.barriers() == []


def test_nobody_in_the_video_is_an_error_and_the_page_goes_on(visit: Visit, tmp_path: Path, video: Path) -> None:
    visit.predict(write_video(tmp_path / "grey.mp4", grey(50), tone(2)), faces="largest")
    said = visit.alarm()
    assert "no face" in said
    assert "A face must be seen: try" in said
    assert visit.page.locator("#result").is_hidden()
    visit.predict(video)
    visit.finished()
    assert visit.page.locator("#alarm").is_hidden()


def test_what_the_browser_cannot_play_has_its_result(visit: Visit, video: Path, tmp_path: Path) -> None:
    import av

    with av.open(str(video)) as source:
        frames = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    odd = write_video(tmp_path / "odd.avi", frames, tone(len(frames) / 25), codecs=("mpeg4", "pcm_s16le"))
    visit.predict(odd, window="1", hop="0.5")
    visit.finished()
    assert "shows no pictures" in visit.text("#unplayable")
    assert visit.page.locator("#boxes").is_hidden()
    line = visit.page.locator("#timeline")
    line.focus()
    visit.page.keyboard.press("End")
    assert line.get_attribute("aria-valuenow") == line.get_attribute("aria-valuemax")
    assert "%" in visit.text("#now")


def test_names_are_shown_and_never_run(visit: Visit, video: Path, tmp_path: Path) -> None:
    bad = tmp_path / "<img src=x onerror=alert(1)>\u202e.mp4"
    bad.write_bytes(video.read_bytes())
    visit.predict(bad)
    visit.finished()
    assert visit.text("#result-title") == "Result for <img src=x onerror=alert(1)>\\u202e.mp4"
    assert visit.page.locator("img").count() == 0


def test_a_video_is_dropped(visit: Visit, video: Path) -> None:
    script = """(name) => {
      const carried = new DataTransfer();
      for (const one of [name, 'another.mp4']) carried.items.add(new File([new Uint8Array(200000)], one));
      return carried;
    }"""
    carried = visit.page.evaluate_handle(script, video.name)
    visit.page.dispatch_event("#drop", "dragover", {"dataTransfer": carried})
    visit.page.dispatch_event("#drop", "drop", {"dataTransfer": carried})
    assert visit.text("#chosen") == f"{video.name}: one video at a time; the others are left out."
    assert visit.page.locator("#go").is_enabled()


def test_empty_files_are_refused_before_they_are_sent(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    visit.page.set_input_files("#file", tmp_path / "empty.mp4")
    assert "empty" in visit.alarm()
    assert visit.page.locator("#go").is_disabled()


def test_it_is_used_on_a_phone_and_by_keyboard(browser: Any, address: str, video: Path) -> None:
    with Visit(browser, address, viewport={"width": 360, "height": 740}, color_scheme="dark").ready() as phone:
        page = phone.page
        page.set_input_files("#file", video)
        assert page.evaluate("document.activeElement.id") == "go"
        page.keyboard.press("Enter")
        phone.finished()
        assert phone.js("() => document.documentElement.scrollWidth") == 360
        assert phone.barriers() == []
        page.locator("#tab-file").focus()
        page.keyboard.press("ArrowRight")
        assert page.locator("#panel-live").is_visible()
        assert phone.js("() => document.documentElement.scrollWidth") == 360
        assert phone.wrong == []


def test_cancel_ends_the_job(visit: Visit, long_video: Path) -> None:
    page = visit.page
    with page.expect_response("**/predict") as sent:
        visit.predict(long_video, window="1", hop="0.1", faces="largest")
    url = sent.value.json()["url"]
    page.click("#cancel")
    page.locator("#progress-card").wait_for(state="hidden")
    assert page.locator("#result").is_hidden()
    assert page.locator("#alarm").is_hidden()
    assert gone(visit, url)


KEPT = "() => window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))"
"""What a page is told that the browser keeps for its Back button."""


@pytest.mark.parametrize("kept", [False, True])
def test_a_page_that_is_left_ends_its_job(
    browser: Any, address: str, long_video: Path, visit: Visit, kept: bool
) -> None:
    with Visit(browser, address).ready() as other:
        with other.page.expect_response("**/predict") as sent:
            other.predict(long_video, window="1", hop="0.1")
        url = sent.value.json()["url"]
        if kept:
            other.js(KEPT)
        else:
            other.page.goto("about:blank")
        assert gone(visit, url)


def test_cancel_before_the_answer_ends_the_job(visit: Visit, server: Served, video: Path) -> None:
    page = visit.page
    os.kill(server.process.pid, signal.SIGSTOP)  # the system takes the video in its place
    try:
        with page.expect_response("**/predict") as sent:
            visit.predict(video, window="1", hop="0.1")
            visit.has("#progress-text", "Sent; the server begins.")
            page.click("#cancel")
            page.locator("#progress-card").wait_for(state="hidden")
            os.kill(server.process.pid, signal.SIGCONT)
        assert gone(visit, sent.value.json()["url"])
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


WATCH = """async () => {
  const { Result } = await import('/static/result.js');
  const { add } = Result.prototype;
  window.told = new Set();
  window.again = window.twice = false;
  Result.prototype.add = function (segment) {
    add.call(this, segment);
    window.again ||= window.told.has(segment.start);
    window.told.add(segment.start);
    window.twice ||= new Set(this.segments.map((one) => one.start)).size < this.segments.length;
  };
}"""


def test_a_connection_that_is_made_anew_doubles_nothing(browser: Any, server: Served, video: Path) -> None:
    def cut(route: Any) -> None:
        route.fulfill(content_type="text/event-stream", body=beginning(server, route.request.url))

    with Visit(browser, server.url).ready() as other:
        page = other.page
        other.js(WATCH)
        page.route("**/jobs/*", cut, times=1)
        other.predict(video, window="1", hop="0.1")
        other.finished()
        assert other.js("() => window.again") is True
        assert other.js("() => window.twice") is False


def beginning(server: Served, url: str) -> str:
    """A job's events up to the third segment."""
    found, segments = list[str](), 0
    with server.client.stream("GET", url, headers={"accept": "text/event-stream"}) as response:
        for line in response.iter_lines():
            found.append(line)
            segments += line == "event: segment"
            if segments == 3 and not line:
                break
    return "\n".join(found) + "\n"


def gone(visit: Visit, url: str) -> bool:
    """Whether the server ends a job."""
    look = """async (url) => {
      for (let k = 0; k < 600; k++) {
        const answer = await fetch(url);
        if (answer.status === 404 || (await answer.json()).state === "cancelled") return true;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      return false;
    }"""
    found = bool(visit.js(look, url))
    visit.wrong[:] = [one for one in visit.wrong if "404" not in one]  # the browser tells of it too
    return found


def test_stretches_are_those_of_the_package(visit: Visit) -> None:
    draw = random.Random(0)
    cases = []
    for count in range(40):
        starts = [round(draw.uniform(0, 20), 2) for _ in range(count % 9)]
        cases.append([{"start": at, "end": round(at + draw.uniform(0, 6), 2), "label": None} for at in starts])
    script = """async (cases) => {
      const { stretches } = await import('/static/stretches.js');
      return cases.map(stretches);
    }"""
    found = visit.js(script, cases)
    assert sum(len(case) for case in found) > 100
    for case, told in zip(cases, found, strict=True):
        assert [(one["start"], one["end"]) for one in told] == [(one.start, one.end) for one in stretches(case)]


def test_boxes_move_between_their_times(visit: Visit) -> None:
    script = """async ([entries, times]) => {
      const { track, boxAt } = await import('/static/stretches.js');
      return times.map((time) => boxAt(track(entries), time));
    }"""
    near = {"times": [1, 2], "boxes": [[0, 0, 0.5, 0.5], [0.2, 0, 0.7, 0.5]]}
    entries = [near, {"times": [6], "boxes": [[0, 0, 1, 1]]}]
    found = visit.js(script, [entries, [0.5, 1, 1.5, 2.1, 4, 6]])
    assert found[0] is None
    assert found[1] == [0, 0, 0.5, 0.5]
    assert found[2] == pytest.approx([0.1, 0, 0.6, 0.5])
    assert found[3:] == [[0.2, 0, 0.7, 0.5], None, [0, 0, 1, 1]]


def test_colours_are_those_of_the_package_and_black_is_read_on_them(visit: Visit) -> None:
    assert visit.js("async () => (await import('/static/colours.js')).PALETTE") == list(PALETTE)
    script = """async () => {
      const { look } = await import('/static/colours.js');
      return [...Array(49).keys()].map(look);
    }"""
    looks = visit.js(script)
    assert len({(one["colour"], one["pattern"]) for one in looks}) == 49
    assert min((luminance(colour) + 0.05) / 0.05 for colour in PALETTE) >= 4.5  # WCAG 2.2, contrast with black


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    shares = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
