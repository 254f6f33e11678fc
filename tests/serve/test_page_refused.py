"""The page and a server that refuses: a token, no room, too large, gone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_setup import Visit, chromium
from serve_setup import Served, served, until

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-16-letters"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launch:
        yield launch()


@pytest.fixture
def narrow(model: Path, tmp_path: Path) -> Iterator[Served]:
    """A server that needs a token, and takes little."""
    options = ("--token", TOKEN, "--jobs", 1, "--queue", 1, "--max-bytes", 3_000_000)
    with served(model, tmp_path, *options) as found:
        found.client.headers["authorization"] = f"Bearer {TOKEN}"
        yield found


def test_a_server_that_refuses_and_goes_away(browser: Any, narrow: Served, video: Path, long_video: Path) -> None:
    with Visit(browser, narrow.url) as visit:
        with_the_token(visit)
        too_large(visit, video)
        told_to_wait(visit, narrow, video, long_video)
        gone(visit, narrow, video, long_video)
        assert [one for one in visit.wrong if "Failed to load resource" not in one] == []


def with_the_token(visit: Visit) -> None:
    """It is asked for until it is right, and lasts as long as the tab."""
    page = visit.page
    page.locator("#token-form").wait_for()
    assert page.locator("#parts").is_hidden()
    assert visit.barriers() == []
    page.fill("#token", "another-token-of-24-letters")
    page.keyboard.press("Enter")
    visit.has("#token-error", "another token")
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    visit.ready()
    assert page.locator("#token-form").is_hidden()
    page.reload()
    visit.ready()
    assert page.locator("#token-form").is_hidden()


def too_large(visit: Visit, video: Path) -> None:
    large = {"name": "large.mp4", "mimeType": "video/mp4", "buffer": video.read_bytes() + bytes(4_000_000)}
    visit.page.set_input_files("#file", large)
    assert "this server takes up to 3.0 MB" in visit.alarm()
    assert visit.page.locator("#go").is_disabled()


def told_to_wait(visit: Visit, server: Served, video: Path, long_video: Path) -> None:
    """It comes again by itself when there is room."""
    blocking = [server.send(long_video, window="1", hop="0.1")]
    until(lambda: server.state(blocking[0])["state"] == "reading")
    blocking.append(server.send(long_video, window="1", hop="0.1"))
    visit.page.clock.install()
    visit.predict(video, window="1", hop="0.5")
    visit.has("#progress-text", "Trying again in")
    for one in blocking:
        server.client.delete(one.json()["url"])
    visit.page.clock.run_for(60_000)  # of the page's clock alone
    visit.page.clock.resume()
    visit.finished()
    assert "%" in visit.text("#whole")


def gone(visit: Visit, server: Served, video: Path, long_video: Path) -> None:
    """In the middle of a job it is waited for; then the page says so, and goes on to say so."""
    page = visit.page
    visit.predict(long_video, window="1", hop="0.1")
    page.locator("#timeline svg").wait_for()
    server.process.kill()
    server.process.wait()
    visit.has("#progress-text", "connection was lost")

    def given_up() -> bool:
        page.clock.run_for(10_000)
        return bool(page.locator("#alarm").is_visible())

    until(given_up)
    assert page.locator("#result").is_hidden()
    visit.predict(video)
    assert "does not answer" in visit.alarm()
    assert visit.page.locator("#again").is_visible()
    assert visit.page.locator("#go").is_enabled()
    assert visit.barriers() == []
