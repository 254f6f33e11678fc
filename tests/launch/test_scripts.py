"""Every script that goes to SLURM, word for word.

After a change on purpose: UPDATE_SCRIPTS=1 pytest tests/launch/test_scripts.py, and read the difference.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from launch_setup import Commands, said

from mmadfer.launch.resources import Resources
from mmadfer.launch.slurm import submit

SCRIPTS = Path(__file__).parent / "scripts"
SLURM = Path(__file__).parents[2] / "slurm"
BASE = {"cluster": "slurm", "gpus": 0, "nodes": 1, "cpus": 4, "parallel": 5, "minutes": 480}
CASES = {
    "one_node_without_gpus": BASE,
    "one_node_one_gpu": {**BASE, "gpus": 1, "partition": "gpu"},
    "one_node_four_gpus": {**BASE, "gpus": 4, "cpus": 32, "parallel": 2},
    "two_nodes_four_gpus": {
        **BASE,
        **{"gpus": 4, "nodes": 2, "cpus": 16, "partition": "gpu", "account": "lab", "qos": "high"},
        "constraint": "a100&ib",
    },
    "two_nodes_without_gpus": {**BASE, "nodes": 2, "cpus": 8},
    "names_with_blanks": {**BASE, "account": "my lab", "constraint": "[rack1|rack2]", "partition": "a b"},
}


def written(case: str, run: Path, folds: int = 5) -> dict[str, str]:
    environment = {"PYTHONPATH": str(run / "code"), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    resources = Resources(**CASES[case])
    found = submit.texts(run, "dfew", {fold: [] for fold in range(1, folds + 1)}, resources, environment, export=True)
    return {name: text.replace(shlex.quote(sys.executable), "PYTHON") for name, text in found.items()}


@pytest.mark.parametrize("case", CASES)
def test_scripts_are_word_for_word(case: str) -> None:
    run = Path("/shared/my runs/$dfew" if "blanks" in case else "/shared/runs/dfew")
    text = "".join(f"=== {name}\n{script}\n" for name, script in written(case, run).items())
    path = SCRIPTS / f"{case}.txt"
    if os.environ.get("UPDATE_SCRIPTS"):
        path.write_text(text)
    assert text == path.read_text()


def test_a_single_fold_is_no_array() -> None:
    one = written("one_node_one_gpu", Path("/run"), folds=1)["folds"]
    assert "--array" not in one
    assert "--output=/run/jobs/%j_0_log.out" in one


def test_no_job_waits_for_the_success_of_another(tmp_path: Path) -> None:
    """afterok would never run after a fold that failed, even if it is queued again and passes."""
    texts = [text for case in CASES for text in written(case, tmp_path).values()]
    shipped = [path.read_text() for path in SLURM.glob("*.sbatch")]
    lines = [line for text in [*texts, *shipped] for line in text.splitlines() if "--dependency" in line]
    assert len(lines) > len(CASES)
    assert all("afterany:" in line for line in lines)


def test_what_is_submitted_is_what_a_dry_run_shows(five: Path, tmp_path: Path, commands: Commands) -> None:
    run = tmp_path / "my run"
    options = ("--run", run, "--cluster", "slurm", "--gpus-per-fold", 2, "--account", "my lab", "--export")
    shown = said(five, *options, "--dry-run").stdout
    assert said(five, *options).exit_code == 0
    array, report, export = commands.scripts()
    expected = shown.split("--- sbatch: ")[1:]
    for script, text in zip((array, report, export), expected, strict=True):
        body = text.partition("\n")[2].partition("Dry run:")[0]
        assert script.strip() == body.replace("ARRAY_ID", "11").replace("REPORT_ID", "12").strip()


@pytest.mark.parametrize("path", sorted(SLURM.glob("*.sbatch")), ids=lambda path: path.name)
def test_shipped_scripts_say_what_is_missing(path: Path, tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    bare = {key: value for key, value in os.environ.items() if key not in ("RUN", "CONFIG")}
    done = subprocess.run(["bash", str(path)], cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "RUN: set RUN" in done.stderr


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("report", " --cpus-per-task=1 mmadfer report /my run"),
        ("export", " --cpus-per-task=4 mmadfer export run /my run --clips 100"),
    ],
)
def test_shipped_scripts_need_srun_alone(name: str, expected: str, commands: Commands) -> None:
    env = {"PATH": str(commands.folder), "RUN": "/my run"}
    subprocess.run(["/bin/bash", str(SLURM / f"{name}.sbatch")], env=env, check=True)
    assert commands.calls("srun") == [expected]
