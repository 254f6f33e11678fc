"""The documentation as a site: it builds strictly, fetches nothing, and has every error message."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
import yaml
from docs_reader import PAGES, ROOT
from needs import needed

needed("mkdocs")
needed("mkdocstrings")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", out]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def _text(page: Path) -> str:
    return unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_page_is_in_the_menu(site: Path) -> None:
    own = {page.name for page in PAGES if page.parent == ROOT / "docs"}
    menu = re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2])
    assert own <= set(menu)
    assert len(menu) == len(set(menu))
    for name in menu:
        assert (site / name).with_suffix(".html").is_file()


def test_a_page_fetches_nothing(site: Path) -> None:
    pages = list(site.glob("*.html"))
    assert len(pages) > 40
    source = r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//"
    style = r"<link\b[^>]*rel=[\"']?(?:stylesheet|preconnect)[\"']?[^>]*href=[\"']?(?:https?:)?//"
    for page in pages:
        assert not re.search(f"{source}|{style}", page.read_text(encoding="utf-8")), page.name


def test_docstrings_are_in_the_interface(site: Path) -> None:
    text = _text(site / "api.html")
    for words in ("Recogniser", "backend", "Predict rolling windows of a live source", "ParityError", "temperature"):
        assert words in text


def test_every_error_message_is_found(site: Path) -> None:
    text = _text(site / "messages.html")
    for words in (
        "is not a run directory (no config.yaml): 'mmadfer train' and 'launch' make one",
        "average 1 to … index sets",
        "no GPU that CUDA can use",
    ):
        assert words in text
    assert len(re.findall(r"\(mmadfer/[\w/]+\.py\)", text)) > 500


def test_links_stay_in_the_site(site: Path) -> None:
    assert yaml.safe_load(re.sub(r"!!python\S+", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))["strict"]
    for page in set(site.glob("*.html")) - {site / "404.html"}:
        for link in re.findall(r"<a\b[^>]*\bhref=\"([^\"#]+)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", link):
                assert (site / link).exists() or link == "..", f"{page.name}: {link}"
