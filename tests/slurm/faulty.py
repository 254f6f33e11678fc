"""Runs on the cluster that a fault hits: launched, hurt, back again, and compared with a run that nothing has hurt.

run = faults.launch()                  # `mmadfer launch`, one fold, a step each 0.3 s
run.past(6)                            # six steps are done, and something is saved
run.stall()                            # optional: the next step takes so long that SIGKILL comes before its end
run.hurt()                             # the clock starts
cluster.requeue(run.job)
run.again()                            # trains again, at full speed from now on; the clock stops
run.finish()                           # fold and report are done
run.check("scontrol requeue", "what happened", lost=4)   # asserts, and a row of the table
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster import Cluster
from processes import Process
from slow import Slow
from watch import Watch

FOLDS = 5
SAVE_EVERY = 4
EPOCHS = 5
"""Of nine steps: saved are 4, 8, 9, 12, 16, 18, ..."""
SCRIPTS = Path(__file__).parents[2] / "slurm"
TABLE = Path(__file__).parents[2] / "build" / "slurm_faults.md"
HEAD = "| fault | what happened | training again after | steps done twice |\n|---|---|---|---|\n"
STEP = 0.3
"""Seconds of a step until the fault."""
STALL = 40.0


class Bench:
    """What all faults of a session share: a store, its configuration, undisturbed runs, and the table."""

    def __init__(self, folder: Path) -> None:
        from setting import make_config, make_store

        self.folder, self.config = folder, folder / "tiny.yaml"
        store = make_store(folder / "tiny.store", folds=FOLDS)
        self.config.write_text(make_config(store, FOLDS, epochs=EPOCHS, save_every=SAVE_EVERY, batch_size=2).to_yaml())
        self._undisturbed: dict[int, tuple[Path, list[subprocess.Popen[bytes]]]] = {}
        TABLE.unlink(missing_ok=True)

    def begin(self, ranks: int = 1) -> None:
        """Start the undisturbed run of as many ranks on this machine, without SLURM, unless that has been done."""
        if ranks not in self._undisturbed:
            run = self.folder / f"undisturbed-{ranks}"
            self._undisturbed[ranks] = run / "fold-1", self._start(run, ranks)

    def undisturbed(self, ranks: int = 1) -> Path:
        """Fold directory of the undisturbed run, finished."""
        self.begin(ranks)
        fold, processes = self._undisturbed[ranks]
        assert [process.wait(120) for process in processes] == [0] * ranks
        return fold

    def row(self, *cells: str) -> None:
        """Add a row to the table; `make test` prints it in the end."""
        TABLE.parent.mkdir(exist_ok=True)
        new = not TABLE.exists()
        with TABLE.open("a") as file:
            file.write((HEAD if new else "") + f"| {' | '.join(cells)} |\n")

    def close(self) -> None:
        for _, processes in self._undisturbed.values():
            for process in processes:
                process.kill()
                process.wait()

    def _start(self, run: Path, ranks: int) -> list["subprocess.Popen[bytes]"]:
        from setting import rank_variables

        words = [sys.executable, "-m", "mmadfer", "train", str(self.config), "--run", str(run), "--fold", "1"]
        started = []
        for variables in rank_variables(ranks):
            env = {**os.environ, **variables, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
            started.append(subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL))
        return started


class Faults:
    """Launches the runs of one test; each fold has `ranks` nodes, one rank on each."""

    def __init__(self, cluster: Cluster, bench: Bench, folder: Path) -> None:
        self.cluster, self.bench, self._folder = cluster, bench, folder
        self._runs: list[Run] = []

    def launch(
        self, *options: str, ranks: int = 1, folds: str = "1", partition: str = "gpu", step: float = STEP
    ) -> "Run":
        """`mmadfer launch` with these options beside; a step takes `step` seconds until the fault is over."""
        run, folder = self._new(ranks, step)
        size = ("--gpus-per-fold", "0", "--cpus-per-fold", str(ranks), "--nodes-per-fold", str(ranks))
        where = ("--cluster", "slurm", "--partition", partition, "--run", str(folder), "--folds", folds)
        run.mmadfer("launch", str(self.bench.config), *where, *size, *options)
        return run

    def sbatch(self, *options: str, ranks: int = 1, step: float = STEP) -> "Run":
        """Fold 1 and its report by slurm/five_fold.sbatch and report.sbatch, all ranks on one node."""
        run, folder = self._new(ranks, step)
        path = f"{run.slow.python.parent}:{self.cluster.env['PATH']}"
        env = ("env", f"RUN={folder}", f"CONFIG={self.bench.config}", f"PATH={path}")
        words = (*env, "sbatch", "--parsable", "--cpus-per-task=1")
        fold = (f"--ntasks-per-node={ranks}", "--array=1", *options, str(SCRIPTS / "five_fold.sbatch"))
        array = self.cluster.run(*words, *fold, cwd=self._folder)
        report = (f"--dependency=afterany:{array}", str(SCRIPTS / "report.sbatch"))
        run.plain = {"fold 1": f"{array}_1", "report": self.cluster.run(*words, *report, cwd=self._folder)}
        return run

    def _new(self, ranks: int, step: float) -> tuple["Run", Path]:
        self.bench.begin(ranks)
        folder = self._folder / f"run-{len(self._runs) + 1}"
        run = Run(self.cluster, self.bench, folder, ranks)
        self._runs.append(run)
        run.slow.set(step=step)
        return run, folder

    def close(self) -> None:
        for run in self._runs:
            run.watch.close()


class Run:
    """A launched run; `fold` is the directory of its fold 1, whose weights are compared."""

    def __init__(self, cluster: Cluster, bench: Bench, folder: Path, ranks: int) -> None:
        self.cluster, self.bench, self.folder, self.ranks = cluster, bench, folder, ranks
        self.fold = folder / "fold-1"
        self.slow = Slow(folder.with_name(f"{folder.name}-slow"))
        self.watch = Watch(self.fold / "metrics.jsonl")
        self.plain: dict[str, str] = {}
        """Its jobs where it was started by sbatch."""
        self.seconds: float | None = None
        """From the fault to the first step after it."""
        self.saved = 0
        """Step of the last checkpoint that was there when the fault came."""
        self._hurt, self._before = (0, 0.0), list[Process]()

    def mmadfer(self, *words: str) -> str:
        """A command of mmadfer's, as a user of the cluster types it, in the Python that is slowed."""
        return self.cluster.run(str(self.slow.python), "-m", "mmadfer", *words)

    @property
    def jobs(self) -> dict[str, str]:
        """SLURM's ids by name: `fold 1`, `report`."""
        return self.plain or json.loads((self.folder / "jobs" / "launch.json").read_text())["jobs"]

    @property
    def job(self) -> str:
        """SLURM's id of fold 1."""
        return self.jobs["fold 1"]

    def logs(self) -> str:
        """What the run's jobs have written, for the message of a failing test."""
        found = sorted([*(self.folder / "jobs").glob("*_log.*"), *self.folder.parent.glob("*.log")])
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in found)

    def until(self, true: Callable[[], object], what: str, seconds: float = 90) -> None:
        """As the cluster's `until`; it fails with the logs of the run."""
        try:
            self.cluster.until(true, what, seconds)
        except AssertionError as error:
            shown = f"job {self.cluster.show(self.job)}\nstarts {self.watch}\n{self.logs()}"
            raise AssertionError(f"{error}\n{shown}") from None

    # ---- the course of a fault

    def past(self, step: int) -> None:
        """Return once this step is done and a checkpoint is there."""
        from setting import checkpoints

        self.until(lambda: self.watch.now.step >= step and checkpoints(self.fold), f"step {step}")

    def stall(self, seconds: float = STALL) -> None:
        """Return once a step has begun that takes so long."""
        step = self.watch.now.step
        self.slow.set(step=seconds)
        self.until(lambda: self.watch.now.step > step, "the step before the long one")
        time.sleep(0.2)

    def stall_save(self, seconds: float = STALL) -> None:
        """Return once a save has begun that takes so long."""
        self.slow.set(step=STEP, save=seconds)
        self.until(lambda: list((self.fold / "checkpoints").glob("step-*.tmp")), "a save")

    def hurt(self) -> None:
        """The fault comes now: the clock starts."""
        from setting import checkpoints

        self.saved = int(checkpoints(self.fold)[-1].name[5:])
        self._before = self.cluster.tasks(self.job)
        self._hurt = (len(self.watch.starts), time.monotonic())

    def again(self, seconds: float = 90) -> float:
        """Return once the fold trains again, quickly as soon as the old ranks have ended; the seconds since `hurt`."""
        before, begun = self._hurt

        def there() -> bool:
            return len(self.watch.starts) > before

        self.until(lambda: there() or not any(task.alive for task in self._before), "the old ranks' end", seconds)
        self.slow.set()
        self.until(there, "another start", seconds)
        self.until(lambda: self.watch.now.trained, "its first step", seconds)
        self.seconds = self.watch.now.trained - begun
        return self.seconds

    def finish(self, seconds: float = 90) -> None:
        """Return once the fold and the report are done."""
        self.until((self.fold / "result.json").exists, "the result", seconds)
        self.until(lambda: self.cluster.state(self.jobs["report"]) == "COMPLETED", "the report", seconds)

    def check(self, fault: str, happened: str, lost: int = SAVE_EVERY) -> None:
        """Same weights as undisturbed, at most `lost` steps done twice, a right report; then a row of the table."""
        from setting import events, weights

        good = self.bench.undisturbed(self.ranks)
        assert self.watch.starts[self._hurt[0]].since >= self.saved, f"{self.watch}"
        assert self.watch.twice <= lost, f"{self.watch}"
        done = [event["step"] for event in events(self.fold, "step")]
        assert done == [event["step"] for event in events(good, "step")]
        assert weights(self.fold) == weights(good)
        self.check_report(good)
        assert self.seconds is not None
        self.bench.row(fault, happened, f"{self.seconds:.0f} s", str(self.watch.twice))

    def report(self) -> dict[int, dict[str, Any]]:
        """The folds of report.json."""
        found = json.loads((self.folder / "report" / "report.json").read_text())
        return {fold["fold"]: fold for fold in found["folds"]}

    def check_report(self, good: Path) -> None:
        """The report has fold 1 as the undisturbed run has it."""
        one, wanted = self.report()[1], json.loads((good / "result.json").read_text())
        assert one["state"] == "finished"
        assert {key: one[key] for key in ("uar", "war", "confusion")} == {
            key: wanted[key] for key in ("uar", "war", "confusion")
        }
