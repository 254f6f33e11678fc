"""Sweeps: their files, what is refused, and what SLURM is asked and told; tests/slurm has one on a real cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from launch_setup import FIVE_FOLD, SWEEP, Commands, said
from test_control import finish
from test_dry_run import plain

from mmadfer.config import sweep
from mmadfer.config.schema import CONFIGS
from mmadfer.errors import ConfigError, RunError
from mmadfer.run import directory as runs
from mmadfer.run import launch_record

SLURM = ("--cluster", "slurm", "--gpus-per-fold", 0, "--cpus-per-fold", 1, "--partition", "cpu", "--time", 60)
ROWS = """\
name: table
base: tiny.yaml
rows:
  full: {}
  static: {model.prompts: 0, model.progressive: 0}
  short: {train.epochs: 1}
"""
SHOWN = """\
sweep        RUN
base         BASE
code         N files, copied to RUN/code
row          full: folds 1, 2; as the base
row          static: folds 1, 2; model.prompts=0, model.progressive=0
row          short: folds 1, 2; train.epochs=1
folds        6 in all (4 at a time, slurm)
each fold    1 rank(s), 0 GPU(s), 1 CPU thread(s) per rank
environment  PYTHONPATH=RUN/code
environment  PYTHONSAFEPATH=1
environment  PYTHONDONTWRITEBYTECODE=1
report       when all folds have ended: each row's, and one line for each row

--- sbatch: folds
#!/bin/bash

# Parameters
#SBATCH --array=0-5%4
"""


@pytest.fixture
def file(config: Path) -> Path:
    """Three rows of two folds; the base is beside it."""
    path = config.with_name("table.yaml")
    path.write_text(ROWS)
    return path


@pytest.fixture
def folder(file: Path, tmp_path: Path, commands: Commands) -> Path:
    """A sweep that was launched: array 11, report 12."""
    shown = said("sweep", file, "--run", tmp_path / "sweep", *SLURM)
    assert shown.exit_code == 0, shown.exception
    return tmp_path / "sweep"


def queue(commands: Commands, *states: str, report: str = "PENDING|Dependency") -> None:
    """What squeue says of the array's elements, and of the report."""
    lines = [f"11_{number}|{state}|None|n1|1:00|0|" for number, state in enumerate(states)]
    commands.make("squeue", "\n".join([*lines, f"12|{report}||30:00|0|"]))


def test_a_table_is_resolved(file: Path, config: Path) -> None:
    table, settings = sweep.read(file, ["train.lr=3e-4"])
    assert (table.name, table.base) == ("table", str(config))
    assert table.rows["short"] == {"train.epochs": 1, "train.lr": 3e-4}
    assert {row: one.name for row, one in settings.items()} == {row: f"table-{row}" for row in table.rows}
    assert (settings["static"].model.prompts, settings["full"].model.prompts) == (0, 2)
    assert {one.train.lr for one in settings.values()} == {3e-4}
    file.write_text("name: a\nbase: tiny.yaml\nrows: {x: {name: 2026-11-21, train.lr: 3e-4}}\n")
    table, settings = sweep.read(file)
    assert (settings["x"].name, table.rows["x"]["name"], settings["x"].train.lr) == ("2026-11-21", "2026-11-21", 3e-4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", r"table\.yaml is not valid YAML"),
        ("name: a\nbase: tiny.yaml\n", "rows: Field required"),
        ("name: a\nbase: tiny.yaml\nrows: {}\n", "rows: Dictionary should have at least 1"),
        ("name: a b\nbase: tiny.yaml\nrows: {x: {}}\n", "name: String should match"),
        ("name: a\nbase: tiny.yaml\nrow: {x: {}}\n", "row: unknown key: did you mean rows"),
        ("name: a\nbase: nothing\nrows: {x: {}}\n", r"table\.yaml: base: no configuration 'nothing'"),
        ("name: a\nbase: tiny.yaml\nrows: {x: {}, X: {}}\n", "x, X: .*differ also without case"),
        ("name: a\nbase: tiny.yaml\nrows: {x: {}, x: {}}\n", "'x' is there twice"),
        ("name: a\nbase: tiny.yaml\nrows: {Jobs: {}}\n", "Jobs: .*and from code, jobs"),
        ("name: a\nbase: tiny.yaml\nrows: {..: {}}\n", "String should match"),
        ("name: a\nbase: tiny.yaml\nrows: {a/b: {}}\n", "String should match"),
        ("name: a\nbase: tiny.yaml\nrows: {1: {}}\n", "valid string"),
        ("name: a\nbase: tiny.yaml\nrows: {x: }\n", r"rows\.x: .*valid dictionary"),
        ("name: a\nbase: tiny.yaml\nrows: {x: {model.promts: 0}}\n", r"rows\.x: (?s:.*)model\.promts: unknown key"),
        ("name: a\nbase: tiny.yaml\nrows: {x: {model.prompts: many}}\n", r"rows\.x: (?s:.*)model\.prompts: .*integer"),
        ("name: a\nbase: tiny.yaml\nrows: {x: {model: {prompts: 0}}}\n", r"x: .*write model\.KEY: VALUE"),
        ("name: a\nbase: tiny.yaml\nrows: {x: {data.store: none.store}}\n", "row x: data.store: .* does not exist"),
    ],
)
def test_a_table_that_is_wrong_is_explained(file: Path, tmp_path: Path, text: str, words: str) -> None:
    file.write_text(text)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=words):
        raise said("sweep", file, "--run", tmp_path / "sweep", *SLURM).exception
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_line_ends_with_two(tmp_path: Path) -> None:
    command = [sys.executable, FIVE_FOLD, "sweep", str(tmp_path / "none.yaml"), "--cluster", "local"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "none.yaml cannot be read" in done.stderr) == (2, True)


def test_shipped_tables_are_found_by_name_and_the_file_runs_them(file: Path, tmp_path: Path) -> None:
    names = ("table4", "ablations/table4", "ablations/table4.yaml", "configs/ablations/table4.yaml")
    assert {sweep.find_table(name) for name in names} == {CONFIGS / "ablations" / "table4.yaml"}
    assert sweep.find_table(str(file)) == file
    with pytest.raises(ConfigError, match=r"table9 cannot be read: .*joint, subjects, table1_dfew, .*table7, tss\)"):
        sweep.find_table("table9")


def test_the_file_itself_runs_a_table_on_another_base(config: Path, tmp_path: Path) -> None:
    words = ["configs/ablations/table4.yaml", "--base", config, "--cluster", "local", "--run", tmp_path / "sweep"]
    command = [sys.executable, SWEEP, *map(str, words), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"base         {config}\n" in done.stdout
    assert "row          mtt_fb: folds 1, 2; model.prompts=0, model.progressive=0\n" in done.stdout
    assert "folds        14 in all" in done.stdout
    shown = subprocess.run([sys.executable, SWEEP, "--help"], capture_output=True, text=True, check=True).stdout
    assert "Usage: mmadfer launch sweep [OPTIONS] " in shown


def test_another_base_has_the_same_rows(file: Path, config: Path, tmp_path: Path) -> None:
    other = config.with_name("other.yaml")
    other.write_text(config.read_text().replace("name: tiny", "name: other"))
    table, settings = sweep.read(file, (), str(other))
    assert (table.base, list(settings)) == (str(other), ["full", "static", "short"])
    assert settings["static"].model.prompts == 0
    with pytest.raises(ConfigError, match="--base: no configuration 'nothing'"):
        sweep.read(file, (), "nothing")


def test_a_dry_run_shows_the_rows_and_the_array(file: Path, config: Path, tmp_path: Path, commands: Commands) -> None:
    run = tmp_path / "sweep"
    shown = said("sweep", file, "--run", run, *SLURM, "--array-parallelism", 4, "--dry-run").stdout
    assert plain(shown, run).replace(str(config), "BASE").startswith(SHOWN)
    assert "--- sbatch: report" in shown
    assert shown.endswith("Dry run: nothing was made or submitted.\n")
    assert (run.exists(), commands.calls("sbatch")) == (False, [])
    here = said("sweep", file, "--run", run, "--cluster", "local", "--cpus-per-fold", 1, "--dry-run").stdout
    assert "sbatch" not in here
    assert "folds        6 in all (2 at a time, local)" in here


def test_rows_are_ordinary_runs_with_one_copy_of_the_code(folder: Path, commands: Commands) -> None:
    array, report = commands.scripts()
    assert "#SBATCH --array=0-5%6\n" in array
    assert "--dependency=afterany:11\n" in report
    assert f"export PYTHONPATH={folder / 'code'}\n" in array
    for number, row in enumerate(("full", "static", "short")):
        left = launch_record.read(folder / row)
        assert left is not None
        assert left.jobs == {"fold 1": f"11_{2 * number}", "fold 2": f"11_{2 * number + 1}"}
        assert left.folder(folder / row) == folder / "jobs"
        assert os.readlink(folder / row / "code") == "../code"
        assert runs.read(folder / row).config.name == f"table-{row}"
    own = launch_record.read(folder)
    assert own is not None
    assert own.jobs == {"array": "11", "report": "12"}
    assert sweep.table_of(folder).base.endswith("tiny.yaml")
    assert commands.calls("squeue") == []  # nothing to ask for


def test_a_folder_that_holds_something_is_refused(file: Path, folder: Path, commands: Commands) -> None:
    queue(commands, *["COMPLETED"] * 6, report="COMPLETED|None")
    with pytest.raises(RunError, match=r"exists and is not empty: .*launch resume"):
        raise said("sweep", file, "--run", folder, *SLURM).exception
    queue(commands, "RUNNING")
    with pytest.raises(RunError, match=r"full is live.* fold 1 is SLURM job 11_0 \(RUNNING\)"):
        raise said("sweep", file, "--run", folder, *SLURM).exception
    assert len(commands.scripts()) == 2
    foreign = folder.with_name("foreign")
    foreign.mkdir()
    (foreign / "thesis.tex").touch()
    for place, words in ((foreign, "is not empty"), (file, "is a file")):
        with pytest.raises(RunError, match=words):
            raise said("sweep", file, "--run", place, *SLURM).exception
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]


def test_of_two_that_come_together_one_wins(file: Path, tmp_path: Path, commands: Commands) -> None:
    words = [sys.executable, FIVE_FOLD, "sweep", str(file), "--run", str(tmp_path / "sweep"), *map(str, SLURM)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said_ = [one.communicate(timeout=60)[1] for one in both]
    assert sorted(one.returncode for one in both) == [0, 2], said_
    assert "exists and is not empty" in "".join(said_)
    assert len(commands.scripts()) == 2


def test_more_than_an_array_may_have_is_refused(file: Path, tmp_path: Path, commands: Commands) -> None:
    commands.make("scontrol", "Slurmctld(primary) at n1 is UP\nMaxArraySize            = 5")
    with pytest.raises(RunError, match=r"6 folds are more than one array of this cluster may have \(5, MaxArraySize\)"):
        raise said("sweep", file, "--run", tmp_path / "sweep", *SLURM).exception
    assert not (tmp_path / "sweep").exists()
    assert said("sweep", file, "--run", tmp_path / "sweep", *SLURM, "--folds", 1).exit_code == 0


def test_export_is_refused_and_where_to_have_it_is_said(file: Path, folder: Path) -> None:
    for words in (("sweep", file, "--run", folder.with_name("other")), ("resume", folder)):
        with pytest.raises(RunError, match="launch resume DIR/ROW --export"):
            raise said(*words, "--export").exception


def test_status_has_one_line_for_each_row_and_asks_once(folder: Path, commands: Commands) -> None:
    for fold in (1, 2):
        finish(folder / "full", fold)
    runs.mark_failed(folder / "static" / "fold-2", "no such clip", folder / "jobs" / "11_3_0_log.err")
    queue(commands, "COMPLETED", "COMPLETED", "RUNNING", "FAILED", "PENDING", "PENDING")
    shown = said("status", folder)
    assert shown.exit_code == 0, shown.exception
    rows = {line.split("│")[1].strip(): line.split() for line in shown.stdout.splitlines() if line.startswith("│")}
    assert [word for word in rows["full"] if word != "│"] == ["full", "2", "50.00%", "50.00%"]
    assert [word for word in rows["static"] if word != "│"] == ["static", "1", "1"]
    assert [word for word in rows["short"] if word != "│"] == ["short", "2"]
    assert "static fold 2: no such clip" in shown.stdout
    assert "report  pending (SLURM job 12, Dependency)" in shown.stdout
    assert "Go on with" not in shown.stdout
    assert len(commands.calls("squeue")) == 1
    found = json.loads(said("status", folder, "--json").stdout)
    assert [fold["state"] for fold in found["rows"]["static"]["folds"]] == ["running", "failed"]
    one = json.loads(said("status", folder / "static", "--json").stdout)
    assert one == found["rows"]["static"]


def test_status_without_an_answer_waits_once_and_tells_what_lies_on_disk(folder: Path, commands: Commands) -> None:
    finish(folder / "full", 1)
    commands.make("squeue", "connect failure", 1, stderr=True)
    shown = said("status", folder)
    assert shown.exit_code == 0, shown.exception
    assert "connect failure" in shown.stdout
    assert "50.00%" in shown.stdout
    assert len(commands.calls("squeue")) == 1
    with pytest.raises(RunError, match="does not answer"):
        raise said("resume", folder).exception


def test_cancel_ends_the_report_and_the_array_and_of_a_row_only_its_folds(folder: Path, commands: Commands) -> None:
    queue(commands, *["RUNNING"] * 6)
    assert said("cancel", folder / "static").exit_code == 0
    assert said("cancel", folder).exit_code == 0
    assert commands.calls("scancel") == [" 11_2 11_3", " 12", " 11"]
    queue(commands, *["CANCELLED"] * 6, report="CANCELLED|None")
    assert said("cancel", folder).stdout == f"nothing of {folder} is running or queued\n"
    assert len(commands.calls("scancel")) == 3


def test_resume_makes_one_array_of_what_is_left_of_all_rows(folder: Path, commands: Commands) -> None:
    for row, fold in (("full", 1), ("full", 2), ("static", 1)):
        finish(folder / row, fold)
    queue(commands, "COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "PENDING", "CANCELLED")
    with pytest.raises(RunError, match="short is live"):
        raise said("resume", folder).exception
    queue(commands, *["FAILED"] * 6)
    before = len(commands.calls("squeue"))
    shown = said("resume", folder, "--time", 90)
    assert shown.exit_code == 0, shown.exception
    assert len(commands.calls("squeue")) - before == 2  # before it is made, and again once it is its own
    assert commands.calls("scancel") == [" 12"]  # it would report too early
    array = commands.scripts()[2]
    assert ("#SBATCH --array=0-2%3\n" in array, "#SBATCH --time=90\n" in array) == (True, True)
    jobs = {row: one.jobs for row in ("full", "static", "short") if (one := launch_record.read(folder / row))}
    assert jobs == {"full": {}, "static": {"fold 2": "13_0"}, "short": {"fold 1": "13_1", "fold 2": "13_2"}}


def test_a_row_alone_goes_on_and_the_sweep_sees_it(folder: Path, commands: Commands) -> None:
    queue(commands, *["FAILED"] * 6, report="COMPLETED|None")
    assert said("resume", folder / "static").exit_code == 0
    left = launch_record.read(folder / "static")
    assert left is not None
    assert left.jobs == {"fold 1": "13_0", "fold 2": "13_1", "report": "14"}
    assert left.folder(folder / "static") == folder / "static" / "jobs"
    commands.make("squeue", "\n".join(f"{job}|RUNNING|None|n1|1:00|0|" for job in ("13_0", "13_1", "14")))
    with pytest.raises(RunError, match="static is live"):
        raise said("resume", folder).exception
    assert said("cancel", folder).exit_code == 0
    assert commands.calls("scancel")[-2:] == [" 14", " 13"]


def test_a_launch_that_was_killed_half_way_is_live(folder: Path, commands: Commands) -> None:
    for row in ("full", "static", "short"):
        (folder / row / launch_record.PLACE).unlink()
    queue(commands, *["PENDING"] * 6)
    with pytest.raises(RunError, match=rf"is live \(SLURM job 11_0\): `mmadfer launch cancel {folder}` ends it"):
        raise said("resume", folder).exception
    assert said("cancel", folder).exit_code == 0
    assert commands.calls("scancel") == [" 12", " 11"]


def test_options_are_kept_where_slurm_takes_nothing(file: Path, tmp_path: Path, commands: Commands) -> None:
    sbatch = (commands.folder / "sbatch").read_text()
    commands.make("sbatch", "invalid partition specified: cpu", 1, stderr=True)
    with pytest.raises(RunError, match="invalid partition"):
        raise said("sweep", file, "--run", tmp_path / "sweep", *SLURM).exception
    (commands.folder / "sbatch").write_text(sbatch)
    assert said("resume", tmp_path / "sweep", "--partition", "long").exit_code == 0
    array = commands.scripts()[0]
    assert ("#SBATCH --partition=long\n" in array, "#SBATCH --time=60\n" in array) == (True, True)


def test_what_is_finished_is_reported_at_once(folder: Path, commands: Commands) -> None:
    for row in ("full", "static"):
        for fold in (1, 2):
            finish(folder / row, fold)
    finish(folder / "short", 1)
    queue(commands, *["COMPLETED"] * 6, report="COMPLETED|None")
    assert said("resume", folder, "--folds", 1).exit_code == 0
    found = json.loads((folder / "report" / "sweep.json").read_text())["rows"]
    assert (found["full"]["complete"], found["full"]["mean"]["uar"], found["full"]["folds_used"]) == (True, 0.5, [1, 2])
    page = (folder / "report" / "sweep.md").read_text()
    assert "| static | 2 of 2 | 50.00 ± 0.00 | 50.00 ± 0.00 | model.prompts=0, model.progressive=0 |" in page
    assert "- short: fold" in page  # it asks for one epoch, and its result is of two
    assert (folder / "full" / "report" / "report.html").is_file()


def test_rows_train_here_one_after_the_other_and_one_that_fails_stops_no_other(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    file.write_text(ROWS.replace("full: {}", "bad: {train.epochs: 1}").replace("  short: {train.epochs: 1}\n", ""))
    command = [sys.executable, FIVE_FOLD, "sweep", str(file), "--run", str(folder)]
    here = ("--cluster", "local", "--folds", "1", "--cpus-per-fold", "1", "--set", "train.epochs=1")
    quiet = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    spoiled = folder / "bad" / "fold-1" / "checkpoints" / "step-00000004" / "state.json"
    begun = subprocess.Popen([*command, *here], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=quiet)
    while not (folder / "sweep.yaml").exists():
        assert begun.poll() is None, begun.communicate()[0]
    spoiled.parent.mkdir(parents=True)
    spoiled.write_text("{")
    text, _ = begun.communicate(timeout=120)
    assert begun.returncode == 1, text
    found = json.loads((folder / "report" / "sweep.json").read_text())["rows"]
    assert (found["bad"]["folds_used"], found["static"]["folds_used"]) == ([], [1]), text
    page = (folder / "report" / "sweep.md").read_text()
    assert f"Base {file.with_name('tiny.yaml')} with train.epochs=1. UAR" in page  # what all rows have in common
    assert "- bad: fold 1 failed" in page
    assert "| bad | 0 of 2 | - | - |  |" in page
    states = json.loads(said("status", folder, "--json").stdout)["rows"]
    assert [row["folds"][1]["state"] for row in states.values()] == ["not begun"] * 2
    assert (states["bad"]["folds"][0]["state"], states["static"]["folds"][0]["state"]) == ("failed", "finished")
    subprocess.run(["rm", "-r", str(spoiled.parent.parent)], check=True)
    again = subprocess.run(
        [*command[:2], "resume", str(folder)], capture_output=True, text=True, env=quiet, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "fold 1  finished" in again.stdout
    assert json.loads((folder / "report" / "sweep.json").read_text())["rows"]["bad"]["folds_used"] == [1]
