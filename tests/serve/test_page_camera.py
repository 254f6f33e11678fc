"""The page with a camera and a microphone: live, recorded, refused, and not there."""

import re
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from page_setup import Visit, chromium
from PIL import Image
from serve_setup import Served, served
from test_step_export import VALUES, awake, contract

from mmadfer.model.weights.build import save_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(server: Served) -> str:
    return server.url


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Any]]:
    with chromium() as opener:
        yield opener


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Any], video: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Its camera and microphone are a video's pictures and sound, again and again."""
    folder = tmp_path_factory.mktemp("camera")
    return launch(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={pictures(video, folder / 'camera.mjpeg')}",
        f"--use-file-for-fake-audio-capture={sound(video, folder / 'microphone.wav')}",
    )


def pictures(video: Path, path: Path) -> Path:
    with av.open(str(video)) as source, open(path, "wb") as file:
        for frame in source.decode(video=0):
            Image.fromarray(frame.to_ndarray(format="rgb24")).resize((320, 320)).save(file, "JPEG")
    return path


def sound(video: Path, path: Path) -> Path:
    with av.open(str(video)) as source:
        rate = source.streams.audio[0].rate
        samples = np.concatenate([frame.to_ndarray()[0] for frame in source.decode(audio=0)])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def visit(browser: Any, address: str) -> Iterator[Visit]:
    with Visit(browser, address).ready() as opened:
        yield opened
        assert opened.wrong == []
        assert opened.elsewhere() == []


def test_live(visit: Visit) -> None:
    page = visit.page
    page.click("#tab-live")
    page.fill("#live-window", "1")
    page.fill("#live-hop", "0.5")
    page.click("#live-go")
    page.locator("#live-timeline svg").wait_for()
    visit.has("#live-label", "%")
    assert float(visit.text("#live-delay").removesuffix(" s")) >= 0
    assert visit.text("#live-left-out").isdigit()
    assert page.locator("#live-boxes .box").count() == 1
    shares = [float(one.rstrip("%")) for one in page.locator("#live-bars .number").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=2)
    assert visit.barriers() == []
    before = int(visit.text("#live-count"))
    visit.js("() => { const begin = performance.now(); while (performance.now() - begin < 700); }")
    page.locator("#live-count").filter(
        has_not_text=re.compile(f"^({'|'.join(map(str, range(before + 4)))})$")
    ).wait_for()
    assert visit.text("#live-notes") == "" or "no pictures" not in visit.text("#live-notes")  # the clocks still agree
    page.click("#live-go")
    visit.has("#live-go", "Start the camera")
    assert page.locator("#alarm").is_hidden()
    assert visit.js("() => document.getElementById('live-view').srcObject") is None


def test_live_begins_anew_on_one_timeline(visit: Visit) -> None:
    page = visit.page
    before = page.locator("#live-timeline svg").count()
    page.fill("#live-window", "10")
    page.click("#live-go")
    visit.has("#live-label", "The first window is being filled")
    assert (before, page.locator("#live-timeline svg").count()) == (1, 0)
    page.click("#live-go")
    visit.has("#live-go", "Start the camera")
    assert sorted(listeners(visit, "live-timeline")) == ["keydown", "pointerdown", "pointermove"]


def listeners(visit: Visit, name: str) -> list[str]:
    """The events that an element listens to, each as often as it does."""
    session = visit.context.new_cdp_session(visit.page)
    node = session.send("Runtime.evaluate", {"expression": f"document.getElementById({name!r})"})["result"]
    found = session.send("DOMDebugger.getEventListeners", {"objectId": node["objectId"]})["listeners"]
    session.detach()
    return [one["type"] for one in found]


def test_a_recording_is_predicted(visit: Visit, video: Path) -> None:
    page = visit.page
    page.click("#tab-file")
    page.set_input_files("#file", video)
    page.click("#record")
    visit.has("#chosen", "Recording: 2")
    assert page.locator("#go").is_disabled()  # it would take "Stop recording" away
    assert page.locator("#file").is_disabled()
    page.click("#record")
    visit.has("#chosen", "recording.webm")
    page.fill("#window", "1")
    page.click("#go")
    visit.finished()
    assert "%" in visit.text("#whole")
    assert visit.js("() => document.getElementById('video').duration") > 1
    assert visit.js("() => document.getElementById('camera-view').srcObject") is None


def test_a_tab_that_is_left_ends_live(visit: Visit) -> None:
    page = visit.page
    page.click("#tab-live")
    page.click("#live-go")
    page.locator("#live").wait_for()
    page.click("#tab-file")
    page.click("#tab-live")
    assert visit.text("#live-go") == "Start the camera"


LATE = """() => {
  const devices = navigator.mediaDevices;
  const real = devices.getUserMedia.bind(devices);
  devices.getUserMedia = async (what) => {
    await new Promise((resolve) => { window.allow = resolve; });
    window.given = await real(what);
    return window.given;
  };
}"""
"""A user who takes their time to allow the camera."""

CLOSED = "() => window.given && window.given.getTracks().every((track) => track.readyState === 'ended')"


@pytest.mark.parametrize("how", ["another tab", "no encoder"])
def test_the_camera_is_closed_where_nothing_is_recorded(browser: Any, address: str, video: Path, how: str) -> None:
    with Visit(browser, address).ready() as visit:
        page = visit.page
        page.set_input_files("#file", video)
        chosen = visit.text("#chosen")
        visit.js(LATE)
        page.click("#record")
        page.wait_for_function("() => window.allow")
        if how == "another tab":
            page.click("#tab-live")
        else:
            visit.js("() => { MediaRecorder.prototype.start = () => { throw new Error('no encoder'); }; }")
        visit.js("() => window.allow()")
        page.wait_for_function(CLOSED)
        if how == "no encoder":
            assert visit.alarm() == "This browser cannot record (no encoder). Choose a file."
        page.click("#tab-file")
        page.locator("#record:enabled").wait_for()
        page.locator("#go:enabled").wait_for()
        assert visit.text("#chosen") == chosen
        assert visit.text("#record") == "Record yourself"
        assert page.locator("#camera").is_hidden()
        assert visit.js("() => document.getElementById('camera-view').srcObject") is None
        assert visit.wrong == []


def test_a_camera_that_is_refused(launch: Callable[..., Any], address: str) -> None:
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream=deny")
    with Visit(launch(*flags), address).ready() as refused:
        for tab, button in (("file", "record"), ("live", "live-go")):
            refused.page.click(f"#tab-{tab}")
            refused.page.click(f"#{button}")
            assert "may not use the camera and microphone" in refused.alarm()
            assert refused.page.locator(f"#{button}").is_enabled()
        assert refused.barriers() == []


def test_a_machine_without_a_camera(launch: Callable[..., Any], address: str) -> None:
    with Visit(launch("--use-fake-ui-for-media-stream"), address).ready() as without:
        without.page.click("#record")
        assert "finds no camera and microphone" in without.alarm()


@pytest.fixture(scope="module")
def of_values(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of a model that gives values of each frame and hears nothing."""
    folder = tmp_path_factory.mktemp("values")
    told = contract("step").model_copy(update={"modalities": "vision"})
    save_weights(folder / "values.safetensors", awake("step"), told, frozen=True)
    with served(folder / "values.safetensors", folder) as found:
        yield found


def test_values_are_curves_and_no_microphone_is_asked_for(browser: Any, of_values: Served, video: Path) -> None:
    with Visit(browser, of_values.url).ready() as visit:
        page = visit.page
        assert page.locator("#faces").is_hidden()
        visit.predict(video, window="1", hop="0.5")
        visit.finished()
        assert page.locator("#timeline polyline").count() == 2
        assert [one.split()[0] for one in page.locator("#bars li").all_inner_texts()] == list(VALUES)
        assert visit.text("#now").startswith("valence ")
        assert visit.barriers() == []
        page.click("#tab-live")
        page.fill("#live-window", "1")
        page.click("#live-go")
        page.locator("#live-timeline polyline").first.wait_for(state="attached")
        assert visit.js("() => document.getElementById('live-view').srcObject.getAudioTracks().length") == 0
        assert visit.text("#live-label").startswith("valence ")
        assert visit.wrong == []
