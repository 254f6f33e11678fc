import base64
import hashlib
import json
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mmadfer.config import schema as configs
from mmadfer.errors import RunError
from mmadfer.report import report
from mmadfer.run import directory as runs
from mmadfer.utils.html_page import read_template

LABELS = ["glad", "sad <b>&"]
MATRICES = {1: [[8, 2], [1, 4]], 2: [[5, 5], [0, 10]], 3: [[10, 0], [2, 3]], 4: [[6, 4], [1, 4]], 5: [[9, 1], [3, 2]]}
UAR = {k: (m[0][0] / sum(m[0]) + m[1][1] / sum(m[1])) / 2 for k, m in MATRICES.items()}
WAR = {k: (m[0][0] + m[1][1]) / (sum(m[0]) + sum(m[1])) for k, m in MATRICES.items()}


def make_run(folder: Path, folds: tuple[int, ...] = (1, 2, 3, 4, 5), *overrides: str) -> Path:
    run = runs.create(folder, configs.load("dfew_160", ["train.epochs=2", *overrides]))
    for fold in folds:
        write_fold(run.fold(fold), fold)
    return run.path


def write_fold(folder: Path, fold: int, changes: dict[str, Any] | None = None) -> None:
    folder.mkdir(exist_ok=True)
    numbers = {"uar": UAR[fold], "war": WAR[fold]}
    found = {"fold": fold, "epoch": 2, "epochs": 2, **numbers, "best": {"epoch": 1, "uar": 0.9, "war": 0.8}}
    found |= {"confusion": MATRICES[fold], "labels": LABELS, "finished": True, "seconds": 90.0}
    (folder / "result.json").write_text(json.dumps(found | (changes or {})))
    write_epochs(folder, 2)


def write_epochs(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    events = [{"event": "epoch", "epoch": e, "loss": 1 / e, "uar": 0.5, "war": 0.5} for e in range(1, count + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def told(run: Path, beside: dict[str, Path] | None = None) -> tuple[dict[str, Any], str, str]:
    """The JSON report, the page and what the terminal showed."""
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115
    report(run, beside or {}, console)
    page = (run / "report" / "report.html").read_text()
    return json.loads((run / "report" / "report.json").read_text()), page, console.export_text()


def test_numbers_are_those_computed_by_hand(tmp_path: Path) -> None:
    found, page, text = told(make_run(tmp_path / "run"))
    assert found["complete"]
    assert found["problems"] == []
    assert {fold["note"] for fold in found["folds"]} == {""}
    assert found["mean"]["uar"] == pytest.approx(sum(UAR.values()) / 5)
    assert found["mean"]["war"] == pytest.approx((12 / 15 + 15 / 20 + 13 / 15 + 10 / 15 + 11 / 15) / 5)
    assert found["std"]["uar"] == pytest.approx(statistics.stdev(UAR.values()))
    assert found["confusion"] == [[38, 12], [7, 23]]
    assert found["recall"] == pytest.approx([38 / 50, 23 / 30])
    assert [fold["uar"] for fold in found["folds"]] == pytest.approx(list(UAR.values()))
    for shown in (page, text):
        assert f"{100 * sum(UAR.values()) / 5:.2f}" in shown
        assert f"± {100 * statistics.stdev(WAR.values()):.2f}" in shown
        assert "ncomplete" not in shown.lower()


def test_best_epochs_stand_beside_and_are_called_what_they_are(tmp_path: Path) -> None:
    found, page, text = told(make_run(tmp_path / "run"))
    assert found["best_on_test"]["uar"] == pytest.approx(0.9)
    assert found["mean"]["uar"] != pytest.approx(0.9)
    for shown in (found["best_on_test"]["kind"], page, text):
        assert "picked on test data" in shown


def test_what_is_not_there_is_left_out_and_said_everywhere(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", (1, 3))
    write_epochs(run / "fold-4", 1)
    write_epochs(run / "fold-5", 1)
    runs.mark_failed(run / "fold-5", "loss is <nan>", Path("log.err"))
    found, page, text = told(run)
    assert not found["complete"]
    assert found["folds_used"] == [1, 3]
    assert found["mean"]["uar"] == pytest.approx((UAR[1] + UAR[3]) / 2)
    assert found["confusion"] == [[18, 2], [3, 7]]
    assert [fold["state"] for fold in found["folds"]] == ["finished", "missing", "finished", "unfinished", "failed"]
    assert "INCOMPLETE" in text
    assert "2 of 5 folds count" in text
    assert 'role="alert"' in page
    for shown in (text, page):
        assert "fold 2 is missing" in shown
        assert "fold 4 is unfinished: 1 of 2 epochs are done" in shown
        assert "fold 5 failed" in shown


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"uar": 0.99}, "uar is 0.99, but the confusion matrix gives"),
        ({"confusion": [[1, 2, 3]]}, "confusion is not a 2 x 2 matrix"),
        ({"confusion": [[-8, 2], [1, 4]]}, "confusion is not a 2 x 2 matrix"),
        ({"fold": 3}, "it is of fold 3, not 2"),
        ({"epoch": 3, "epochs": 3}, "the configuration asks for 2"),
        ({"labels": ["glad", "cross"]}, "its classes are glad, cross"),
        ({"labels": None}, "result.json"),
    ],
)
def test_a_result_that_does_not_add_up_is_not_believed(tmp_path: Path, changes: dict[str, Any], note: str) -> None:
    run = make_run(tmp_path / "run")
    write_fold(run / "fold-2", 2, changes)
    found, _, _ = told(run)
    assert found["folds_used"] == [1, 3, 4, 5]
    assert found["folds"][1]["state"] == "damaged"
    assert note in found["folds"][1]["note"]


def test_a_torn_result_is_damaged_and_a_torn_event_is_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "fold-1" / "result.json").write_text('{"fold": 1, "ep')
    with open(run / "fold-2" / "metrics.jsonl", "a") as file:
        file.write('{"event": "epo')
    found, _, _ = told(run)
    assert found["folds"][0]["state"] == "damaged"
    assert [event["epoch"] for event in found["folds"][1]["curves"]] == [1, 2]


def test_nothing_to_report_is_an_error_that_names_every_fold(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ())
    with pytest.raises(RunError, match=r"(?s)no finished fold.*fold 1 is missing.*fold 5 is missing.*--resume"):
        report(run, {})
    assert not (run / "report").exists()
    with pytest.raises(RunError, match="not a run directory"):
        report(tmp_path / "nowhere", {})


def test_runs_are_compared_on_the_folds_that_all_have(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    vision = make_run(tmp_path / "vision", (1, 2, 3), "data.modalities=vision")
    sound = make_run(tmp_path / "sound", (2, 3), "data.modalities=audio")
    nothing = make_run(tmp_path / "nothing", ())
    found, page, text = told(run, {"vision only": vision, "sound only": sound, "nothing": nothing})
    rows = {row["name"]: row for row in found["beside"]}
    assert rows["this run"]["folds"] == rows["vision only"]["folds"] == rows["sound only"]["folds"] == [2, 3]
    assert rows["vision only"]["uar"] == pytest.approx((UAR[2] + UAR[3]) / 2)
    assert rows["sound only"]["differs"] == {"data.modalities": "audio"}
    assert rows["nothing"]["note"] == "no finished fold"
    for shown in (page, text):
        assert "vision only" in shown


def test_a_run_of_other_classes_takes_no_fold_from_the_comparison(tmp_path: Path) -> None:
    run, vision = make_run(tmp_path / "run"), make_run(tmp_path / "vision")
    other = make_run(tmp_path / "other", ())
    write_fold(other / "fold-5", 5, {"labels": ["glad", "cross"]})
    found, _, _ = told(run, {"vision only": vision, "other": other})
    rows = {row["name"]: row for row in found["beside"]}
    assert rows["this run"]["folds"] == rows["vision only"]["folds"] == [1, 2, 3, 4, 5]
    assert (rows["other"]["note"], rows["other"]["folds"]) == ("other classes: not compared", [])


class _Page(HTMLParser):
    """Collects tags and what they refer to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = {name: value or "" for name, value in attrs}
        self.ids += [values["id"]] if "id" in values else []
        self.references += [values[name] for name in ("src", "href", "xlink:href") if name in values]


def test_the_page_is_whole_fetches_nothing_and_escapes_text(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", (1, 2))
    runs.mark_failed(run / "fold-3", "<script>alert(1)</script>", Path("log"))
    write_epochs(run / "fold-3", 1)
    _, page, _ = told(run, {"<i>other": run})
    parsed = _Page(page)
    assert parsed.tags.count("script") == 1, "ours, and no other"
    script = read_template("copy.js")
    assert f"<script>{script}</script>" in page
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{hashed}&#39;" in page
    assert "i" not in parsed.tags
    assert "sad &lt;b&gt;&amp;" in page
    assert "&lt;i&gt;other" in page
    assert parsed.tags.count("svg") == 3
    assert len(parsed.ids) == len(set(parsed.ids))
    assert all(reference.startswith("#") for reference in parsed.references)
    assert {reference[1:] for reference in parsed.references} <= set(parsed.ids)
    for word in ("mmadfer: Apache-2.0", "viewport", "prefers-color-scheme: dark", "epochs: 2"):
        assert word in page


def test_one_fold_has_no_deviation(tmp_path: Path) -> None:
    found, page, _ = told(make_run(tmp_path / "run", (4,)))
    assert found["std"]["uar"] is None
    assert "one fold" in page


def test_reporting_needs_no_torch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    code = "import sys; from pathlib import Path; from mmadfer.report import report; report(Path(sys.argv[1]), {})\n"
    code += "print('imported:', *sorted({'torch', 'submitit'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code, str(run)], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "imported:"
    assert (run / "report" / "report.html").is_file()
