import json
from pathlib import Path

from rich.console import Console

from mmadfer.launch.follow import Follower, Tail, last_lines
from mmadfer.tasks.classification import CLASSIFICATION


def line(**values: object) -> str:
    return json.dumps(values) + "\n"


def test_only_whole_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    first, second = line(event="epoch", epoch=1), line(event="epoch", epoch=2)
    path.write_text(first + second[:10])
    assert [event["epoch"] for event in tail.read()] == [1]
    assert tail.read() == []
    path.write_text(first + second + '{"torn\n[1]\n' + line(event="step", step=9))
    assert [event.get("epoch", event.get("step")) for event in tail.read()] == [2, 9]


def test_a_file_that_was_begun_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(event="epoch", epoch=1) * 3)
    tail = Tail(path)
    tail.read()
    path.write_text(line(event="epoch", epoch=1))
    assert len(tail.read()) == 1


def follow(run: Path, terminal: bool = False) -> tuple[Follower, Console]:
    console = Console(record=True, width=100, force_terminal=terminal, file=open("/dev/null", "w"))  # noqa: SIM115
    return Follower(run, [1, 2], 3, CLASSIFICATION, console), console


def test_one_line_for_each_epoch_and_each_change(tmp_path: Path) -> None:
    for fold in (1, 2):
        (tmp_path / f"fold-{fold}").mkdir()
    old = tmp_path / "fold-2" / "metrics.jsonl"
    old.write_text(line(event="epoch", epoch=1, loss=9.0))
    show, console = follow(tmp_path)
    with show:
        show.update({1: "running", 2: "queued"})
        event = line(event="epoch", epoch=1, loss=0.5, uar=0.25, war=None, seconds=61.2)
        (tmp_path / "fold-1" / "metrics.jsonl").write_text(line(event="step", step=1, loss=2.0) + event)
        show.update({1: "running", 2: "queued"})
        show.update({1: "finished", 2: "failed"})
        show.failed(2, "Killed [by] the kernel", Path("job.err"))
    assert console.export_text().splitlines() == [
        "fold 1  running",
        "fold 1  epoch 1/3  loss 0.5000  UAR 25.00%  61 s",
        "fold 1  finished",
        "fold 2 failed; its last words (job.err):",
        "Killed [by] the kernel",
    ]


def test_the_table_shows_where_each_fold_is(tmp_path: Path) -> None:
    (tmp_path / "fold-1").mkdir()
    show, console = follow(tmp_path, terminal=True)
    (tmp_path / "fold-1" / "metrics.jsonl").write_text(
        line(event="epoch", epoch=2, step=40, loss=0.5, uar=0.25, war=0.5)
        + line(event="step", epoch=3, step=41, loss=0.4)
    )
    show.update({1: "running", 2: "queued"})
    console.print(show.table())
    text = console.export_text()
    for shown in ("running", "queued", "2/3", "41", "0.4000", "25.00%", "50.00%"):
        assert shown in text


def test_last_words_come_from_the_first_file_that_has_any(tmp_path: Path) -> None:
    empty, full = tmp_path / "a.err", tmp_path / "a.out"
    empty.write_text("\n")
    full.write_text("\n".join(map(str, range(100))))
    assert last_lines([tmp_path / "none", empty, full], 2) == ("98\n99", full)
    assert last_lines([tmp_path / "none", empty]) == ("", empty)
    assert last_lines([tmp_path / "none"]) == ("", None)
