"""A sweep on a real SLURM: one array of all rows; what fails is named, and goes on with the others."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster import Cluster

ROWS = ("full", "static", "short")


def test_three_rows_in_one_array(cluster: Cluster, five: Callable[..., Path], tmp_path: Path) -> None:
    folder, file = tmp_path / "sweep", tmp_path / "table.yaml"
    keys = ("{}", "{model.prompts: 0, model.progressive: 0}", "{train.seed: 2}")
    rows = "".join(f"  {row}: {key}\n" for row, key in zip(ROWS, keys, strict=True))
    file.write_text(f"name: table\nbase: {five(epochs=1).name}\nrows:\n{rows}")

    def launch(*words: object) -> str:
        return cluster.run(sys.executable, "-m", "mmadfer", "launch", *map(str, words))

    def jobs() -> dict[str, str]:
        found: dict[str, str] = read(folder / "jobs" / "launch.json")["jobs"]
        return found

    def reported() -> dict[str, Any]:
        cluster.wait_for(jobs()["report"], "COMPLETED")
        return {row: found["folds_used"] for row, found in read(folder / "report" / "sweep.json")["rows"].items()}

    launch("sweep", file, "--run", folder, "--folds", "1-2", "--cluster", "slurm", "--gpus-per-fold", 0, "--time", 60)
    spoiled = folder / "static" / "fold-2" / "checkpoints" / "step-00000004"
    spoiled.mkdir(parents=True)
    (spoiled / "state.json").write_text("{")
    array = jobs()["array"]
    assert len(cluster.run("squeue", "-h", "-r", "-t", "all", "-j", array).splitlines()) == 6
    told = json.loads(launch("status", folder, "--json"))
    assert [fold["job"] for row in ROWS for fold in told["rows"][row]["folds"][:2]] == [
        f"{array}_{k}" for k in range(6)
    ]
    assert reported() == {"full": [1, 2], "static": [1], "short": [1, 2]}
    assert "- static: fold 2 failed: no checkpoint in " in (folder / "report" / "sweep.md").read_text()
    assert cluster.state(f"{array}_3") == "FAILED"
    assert "static fold 2: no checkpoint in" in launch("status", folder)

    launch("resume", folder)
    assert launch("cancel", folder).startswith(f"SLURM ends {jobs()['array']}, {jobs()['report']}; ")
    cluster.wait_for(jobs()["report"], "CANCELLED")
    cluster.until(lambda: not cluster.run("squeue", "-h"), "the end of all jobs")

    shutil.rmtree(spoiled.parent)
    launch("resume", folder)
    assert reported() == {row: [1, 2] for row in ROWS}
    (one,) = cluster.run("squeue", "-h", "-r", "-t", "all", "-j", jobs()["array"], "-o", "%T").splitlines()
    assert one == "COMPLETED"
    assert [path.name for path in folder.glob("*/code/mmadfer")] == ["mmadfer"] * 3  # links to the one copy


def read(path: Path) -> Any:
    return json.loads(path.read_text())
