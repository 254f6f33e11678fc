"""The page of a run: tables to paste, clips, groups, runs side by side, and how it behaves in a browser."""

import base64
import csv
import io
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from needs import missing, needed
from PIL import Image
from report_setup import LABELS, Made, make_run, make_store
from rich.console import Console
from sklearn.metrics import recall_score

from mmadfer.cli.main import app
from mmadfer.cli.main import run as command
from mmadfer.evaluation.compare import compare
from mmadfer.evaluation.groups import holm
from mmadfer.report import report
from mmadfer.report.beside import named
from mmadfer.report.for_others import without_folders
from mmadfer.report.page import render_report
from mmadfer.report.paste import tables
from mmadfer.report.summary import RunReport

CHROMIUM = Path("/usr/bin/chromium")
QUIET = Console(file=open("/dev/null", "w"))  # noqa: SIM115


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def store(here: Path) -> Path:
    (here / "media").mkdir()
    return make_store(here / "made.store")


@pytest.fixture(scope="module")
def mine(here: Path, store: Path) -> Made:
    return make_run(here / "mine", store)


@pytest.fixture(scope="module")
def other(here: Path, store: Path) -> Made:
    return make_run(here / "other", store, seed=4, temperature=None)


@pytest.fixture(scope="module")
def told(mine: Made, other: Made, here: Path, store: Path) -> RunReport:
    """Three runs side by side, by the command's own way."""
    third = make_run(here / "third", store, folds=2, seed=7)
    hardest = min(
        (
            (clip, row[t])
            for fold in (1, 2)
            for clip, t, row in zip(mine.ids[fold], mine.truth[fold], mine.told[fold], strict=True)
        ),
        key=lambda pair: pair[1],
    )[0]
    (here / "media" / f"{hardest}.mp4").touch()
    assert command(app, ["report", *map(str, (mine.run, other.run, third.run))]) == 0
    return report(mine.run, named([other.run, third.run]), QUIET)


@pytest.fixture(scope="module")
def page(mine: Made, told: RunReport) -> str:
    return (mine.run / "report" / "report.html").read_text()


def everything(made: Made) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([*made.truth.values()]), np.concatenate([*made.told.values()])


def test_the_table_to_paste_has_the_numbers_of_the_run(told: RunReport, mine: Made, page: str) -> None:
    markdown, latex, text = (one.text for one in tables(told))
    truth, shares = everything(mine)
    recalls = 100 * recall_score(truth, shares.argmax(1), average=None)
    each = [100 * recall_score(mine.truth[f], mine.told[f].argmax(1), average="macro") for f in (1, 2)]
    wanted = [*(f"{one:.2f}" for one in recalls), f"{np.mean(each):.2f}", f"{np.std(each, ddof=1):.2f}"]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["run"] for row in rows] == ["dfew_160", "other", "third"]
    assert [rows[0][f"recall_{label}"] for label in LABELS] == wanted[:3]
    assert [rows[0]["uar"], rows[0]["uar_std"]] == wanted[3:]
    heads, _, first = (re.split(r" \| ", line.strip("| ")) for line in markdown.splitlines()[:3])
    assert heads == ["Run", *LABELS, "UAR", "WAR"]
    assert first[1:5] == [*wanted[:3], f"{wanted[3]} ± {wanted[4]}"]
    assert "Run & glad & sad \\textless{}b\\textgreater{} & calm & UAR & WAR \\\\" in latex
    assert f"dfew\\_160 & {' & '.join(wanted[:3])} & {wanted[3]} $\\pm$ {wanted[4]}" in latex
    assert latex.count("\\toprule") == latex.count("\\midrule") == latex.count("\\bottomrule") == 1
    for one in (markdown, latex, text):
        assert one in unescape(page)


def test_names_cannot_break_the_tables(told: RunReport) -> None:
    odd = told.__class__(**{**vars(told), "beside": (), "about": {"name": "a|b & 50%_{x}\\"}})
    markdown, latex, text = (one.text for one in tables(odd))
    assert "| a\\|b & 50%_{x}\\ |" in markdown
    assert "a|b \\& 50\\%\\_\\{x\\}\\textbackslash{}" in latex
    assert next(iter(csv.DictReader(io.StringIO(text))))["run"] == "a|b & 50%_{x}\\"


def test_the_hardest_clips_are_shown_with_a_small_picture(mine: Made, page: str, here: Path) -> None:
    rows = [
        (clip, truth, row)
        for fold in (1, 2)
        for clip, truth, row in zip(mine.ids[fold], mine.truth[fold], mine.told[fold], strict=True)
    ]
    rows.sort(key=lambda row: row[2][row[1]])
    figures = re.findall(r"<figure>(.*?)</figure>", page, re.DOTALL)
    assert len(figures) == 12
    for figure, (clip, truth, shares) in zip(figures, rows, strict=False):
        assert clip in figure
        shown = unescape(re.sub(r"<[^>]*>", "", re.sub(r"<li[^>]*>", " ", figure)))
        assert f"{LABELS[truth]}, told {LABELS[shares.argmax()]}" in shown
        assert f"loss {-np.log(max(shares[truth], 5e-7)):.2f}" in shown
        for label, share in zip(LABELS, shares, strict=True):
            assert f"{label} {100 * share:.2f} %" in shown
        found = re.search(r'src="data:image/jpeg;base64,([^"]+)"', figure)
        assert found
        assert len(found[1]) < 12_000
    assert (here / "media" / f"{rows[0][0]}.mp4").as_uri() in figures[0], "its media is there, and linked"
    assert "href" not in figures[1]


def test_pictures_are_the_middle_frames_made_small(mine: Made, page: str) -> None:
    first = re.search(
        r'src="data:image/jpeg;base64,([^"]+)" width="112" height="112" alt="Middle face of f(\d)-(\d+)', page
    )
    assert first
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(first[1]))), np.int64)
    assert image.shape == (112, 112, 3)
    wanted = np.array([10 * int(first[2]), 4 * int(first[3]) % 255, 120]) // 2
    assert np.abs(image[56, 20] - wanted).max() < 12
    assert image[56, 100].max() < 12


def test_runs_side_by_side_are_those_of_compare(told: RunReport, mine: Made, other: Made, page: str) -> None:
    made = json.loads((mine.run / "report" / "report.json").read_text())
    first, second, third = made["beside"]
    found = compare(mine.run, other.run).overall
    assert second["difference"]["uar"]["value"] == pytest.approx(found["uar"].value)
    assert second["difference"]["war"]["p"] == found["war"].p
    each = [row["difference"][name] for row in (second, third) for name in ("uar", "war")]
    assert [one["holm"] for one in each] == pytest.approx(holm([one["p"] for one in each]))
    truth, shares = everything(other)
    assert second["recall"] == pytest.approx(list(recall_score(truth, shares.argmax(1), average=None)))
    order = np.sort(shares.max(1))[::-1]
    sure = shares.max(1) >= order[int(np.ceil(0.8 * len(truth))) - 1]
    assert second["accuracy_at_80%"] == pytest.approx((shares.argmax(1) == truth)[sure].mean())
    assert first["ece"] == pytest.approx(np.mean([one["ece"] for one in made["clips"]["calibration"]]))
    assert second["seconds"] == 2 * 5400
    plain = unescape(re.sub(r"<[^>]*>", " ", page))
    assert f"{100 * found['uar'].value:+.2f}" in plain
    assert f"{100 * found['uar'].low:+.2f} to {100 * found['uar'].high:+.2f}" in plain
    assert re.search(r"other\s+data.validation = 0.0, train.seed = 5", plain)
    pairs = {(row["column"], row["value"]): row for row in second["groups"]}
    assert pairs["band", "old"]["p"] is None
    assert {"sex", "light", "band"} == {column for column, _ in pairs}


def test_a_run_without_validation_clips_says_so(other: Made) -> None:
    report(other.run, {}, QUIET)
    page = (other.run / "report" / "report.html").read_text()
    assert "No temperature: fold 1, 2: no validation clips: no temperature." in page
    assert "By the temperature" not in page


def test_hours_recipe_and_energy_are_told(told: RunReport, page: str) -> None:
    plain = unescape(re.sub(r"<[^>]*>", " ", page))
    assert re.search(r"Time\s+3.00 h, folds one after the other; 6.00 h of 2 processes", plain)
    assert re.search(r"Energy\s+not measured", plain)
    assert re.search(r"published recipe\s+dfew_160, whose value is in brackets: .*train.epochs 2 \(25\)", plain)


def test_the_terminal_tells_intervals_calibration_and_coverage(here: Path, store: Path) -> None:
    made = make_run(here / "shown", store)
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    found = report(made.run, {}, console).of_clips
    text = console.export_text()
    assert found is not None
    low, high = found.intervals.scores["uar"] or (0, 0)
    assert f"95 % intervals over test clips: UAR {100 * low:.2f} to {100 * high:.2f}, WAR " in text
    ece, after = (100 * np.mean([one[k] for one in found.calibration]) for k in (1, 4))
    assert f"Expected calibration error, mean over folds: {ece:.2f} %, {after:.2f} % by temperatures." in text
    truth, shares = everything(made)
    assert f"surest clips first: {100 * (shares.argmax(1) == truth).mean():.2f} % at 100%, " in text


def test_energy_is_told_where_all_folds_were_measured(here: Path) -> None:
    powered = make_run(here / "powered", None)
    for fold, told in ((1, "not measured"), (2, "4.000 kWh of the GPUs alone")):
        path = powered.run / f"fold-{fold}" / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "joules": 7.2e6}))
        report(powered.run, {}, QUIET)
        page = (powered.run / "report" / "report.html").read_text()
        assert re.search(rf"<dt>Energy</dt><dd>{told}", page)
    made = json.loads((powered.run / "report" / "report.json").read_text())
    assert [fold["joules"] for fold in made["folds"]] == [7.2e6, 7.2e6]


def test_without_the_store_there_are_neither_pictures_nor_groups(here: Path) -> None:
    alone = make_run(here / "alone", here / "gone.store")
    found = report(alone.run, {}, QUIET)
    page = (alone.run / "report" / "report.html").read_text()
    assert found.of_clips is not None
    assert found.of_clips.groups == []
    assert "No groups: " in page
    assert "gone.store" in page
    assert page.count("<figure>") == 12
    assert "<img" not in page


def test_the_page_for_others_has_no_pictures_and_no_folders(
    here: Path, store: Path, told: RunReport, page: str
) -> None:
    public = render_report(told, private=False)
    assert str(here) in page
    assert "data:image" in page
    spaced = report(make_run(here / "a b" / "mine", store).run, {"/x/y": told.run}, QUIET)
    for one in (public, render_report(spaced, private=False)):
        assert str(here) not in one
        assert "file:" not in one
        assert "data:image" not in one
        assert "Hardest clips" not in one
        assert "<dd>mine, begun " in one, "the name is there"
        assert "store: made.store" in one
    script = re.compile(r"<script>.*</script>|script-src [^;\"]*", re.DOTALL)
    assert script.findall(public) == script.findall(page), "it still copies"
    gone = make_run(here / "nowhere", here / "odd place" / "gone.store")
    words = unescape(render_report(report(gone.run, {}, QUIET), private=False))
    assert re.search(r"No groups: .*\bgone\.store", words)
    assert "odd place" not in words


def test_words_that_are_no_paths_stay() -> None:
    same = "<b>12 / 3 / 4</b> truth / told, 1/2, a/b/c.mp4, /x <style>a{b:url(/c/d/e)}</style><script>/a/b/c</script>"
    assert without_folders(same) == same
    assert without_folders("<p>See '/home/a b/c&amp;d/x.csv', ~/e/f</p><!-- /g/h/i -->") == (
        "<p>See 'x.csv', f</p><!-- i -->"
    )


def test_without_predictions_the_page_says_what_is_missing(here: Path, store: Path) -> None:
    bare = make_run(here / "bare", store)
    (bare.run / "fold-2" / "predictions.csv").unlink()
    assert report(bare.run, {}, QUIET).of_clips is None
    page = (bare.run / "report" / "report.html").read_text()
    assert "No intervals, calibration, groups or clips: " in page
    assert "predictions.csv cannot be read" in page


def test_a_run_that_cannot_be_tested_against_stands_there_with_the_reason(here: Path, store: Path) -> None:
    apart = make_run(here / "apart", store)
    bare = make_run(here / "untold", store, seed=5)
    (bare.run / "fold-1" / "predictions.csv").unlink()
    first, second = report(apart.run, {"untold": bare.run}, QUIET).beside
    assert (first.folds, second.folds, second.gains, second.clips) == ((1, 2), (1, 2), {}, None)
    page = unescape((apart.run / "report" / "report.html").read_text())
    assert re.search(r"<dt>untold</dt><dd>train.seed = 6\. No tests: .*predictions.csv cannot be read", page)


def test_without_a_common_fold_the_table_to_paste_is_of_this_run(here: Path, store: Path) -> None:
    apart = make_run(here / "lonely", store)
    other = make_run(here / "elsewhere", store, folds=3)
    for fold in (1, 2):
        (other.run / f"fold-{fold}" / "result.json").unlink()
    found = report(apart.run, {"elsewhere": other.run}, QUIET)
    rows = list(csv.DictReader(io.StringIO(tables(found)[2].text)))
    alone = list(csv.DictReader(io.StringIO(tables(report(apart.run, {}, QUIET))[2].text)))
    assert rows == alone
    assert [row["run"] for row in rows] == ["dfew_160"]


def test_a_run_given_twice_is_refused(mine: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(app, ["report", str(mine.run), str(mine.run / "..") + "/mine"]) == 2
    assert "is given twice: give each run once" in capsys.readouterr().err
    assert command(app, ["report"]) == 2
    assert "no run directory: give one" in capsys.readouterr().err


def test_two_runs_of_one_name_are_told_apart() -> None:
    assert list(named([Path("a/x"), Path("b/x"), Path("y")])) == ["a/x", "b/x", "y"]


def test_in_a_browser_without_a_network(mine: Made, told: RunReport, page: str) -> None:
    """On a phone nothing is wider than it, the buttons copy, it is dark where asked to be, and it fetches nothing."""
    if not CHROMIUM.exists():
        missing(f"no {CHROMIUM}")
    sync = needed("playwright.sync_api")
    wanted = [one.text for one in tables(told)]
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 360, "height": 700}, color_scheme="dark", offline=True)
        tab, asked, problems = context.new_page(), list[str](), list[Any]()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda line: problems.append(line.text))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        address = (mine.run / "report" / "report.html").as_uri()
        tab.goto(address)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
        for k, button in enumerate(tab.locator("[data-paste] button").all()):
            button.click()
            sync.expect(tab.locator("[role=status]").nth(k)).to_have_text("copied", timeout=60_000)
            tab.evaluate("document.body.insertAdjacentHTML('afterbegin', '<textarea id=into></textarea>')")
            tab.locator("#into").press("Control+v")
            assert tab.locator("#into").input_value().strip() == wanted[k].strip()
            tab.evaluate("document.getElementById('into').remove()")
        assert [url for url in asked if not url.startswith(("data:", address))] == []
        assert problems == []
        browser.close()
