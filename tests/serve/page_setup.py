"""A headless Chromium for tests of the page, and what they ask of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from needs import missing, needed

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LONG = 60_000
"""Milliseconds that a busy machine may take for anything."""


@contextmanager
def chromium() -> Iterator[Callable[..., Any]]:
    """What opens browsers with further flags; tests are skipped where there is none.

    Only one of these at a time in a process.
    """
    sync = needed("playwright.sync_api")
    if not CHROMIUM.exists():
        missing(f"no {CHROMIUM}")
    with sync.sync_playwright() as playwright:
        yield lambda *flags: playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*FLAGS, *flags])


class Visit:
    """A page that was opened, and what went wrong in it.

    Args:
        browser: of `chromium`.
        address: of the server, such as `http://127.0.0.1:8000`.
        options: of the browser's context, such as `viewport` or `color_scheme`.
    """

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.address = address
        self.context = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **options})
        self.context.set_default_timeout(LONG)
        self.page = self.context.new_page()
        self.wrong, self.asked = list[str](), list[str]()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        self.page.on("dialog", lambda dialog: (self.wrong.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def ready(self) -> "Visit":
        """Wait until the page knows its model."""
        self.page.locator("#parts").wait_for()
        return self

    def predict(self, video: Path, **options: str) -> None:
        """Choose a video and options by their ids, and press the button."""
        self.page.set_input_files("#file", video)
        for name, value in options.items():
            field = self.page.locator(f"#{name}")
            if name in ("faces", "cut"):
                field.select_option(value)
            else:
                field.fill(value)
        self.page.click("#go")

    def finished(self) -> None:
        """Wait for a whole result."""
        self.page.locator("#downloads").wait_for()

    def text(self, selector: str) -> str:
        """The words of an element that is seen, in one line."""
        return " ".join(self.page.locator(selector).inner_text().split())

    def alarm(self) -> str:
        """Wait for an error, and what it says."""
        self.page.locator("#alarm").wait_for()
        return self.text("#alarm-text")

    def has(self, selector: str, words: str) -> None:
        """Wait until an element has these words."""
        self.page.locator(selector).filter(has_text=words).wait_for()

    def elsewhere(self) -> list[str]:
        """What was asked of other servers."""
        own = urlsplit(self.address).netloc
        return [
            url for url in self.asked if urlsplit(url).scheme not in ("blob", "data") and urlsplit(url).netloc != own
        ]

    def barriers(self) -> list[str]:
        """What axe-core finds that keeps people out."""
        axe = needed("axe_playwright_python.sync_playwright").Axe()
        found = axe.run(self.page).response["violations"]
        return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]

    def js(self, function: str, *given: Any) -> Any:
        """What a function of JavaScript gives."""
        return self.page.evaluate(function, *given)
