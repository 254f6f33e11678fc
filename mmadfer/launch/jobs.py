"""What runs inside a submitit job: one fold or its measurement on each of its ranks, the report, or the export.

Nothing heavy is imported before it runs.

A signal before the time limit or at preemption (USR2) would make submitit checkpoint rank 0 at once, in the middle
of a step. Here every rank only raises a flag; the training loop sees it at the end of the step, all ranks save
together, and then submitit's own handler puts the job back into the queue. After SIGTERM
they save and leave for good. What resumes is found on disk, never in the pickle.
"""

import ctypes
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from mmadfer.errors import RunError
from mmadfer.run import code_snapshot
from mmadfer.run import directory as runs
from mmadfer.run.lease import LostError, left_to_later_start
from mmadfer.run.lock import BusyError
from mmadfer.utils import compat, cores
from mmadfer.utils.garbage import collect_less_often
from mmadfer.utils.ports import free_port
from mmadfer.utils.slurm_env import port_of


class Requeued:
    """A job that submitit puts back into the queue as it is."""

    def checkpoint(self) -> Any:
        """What submitit queues again: this same job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(frozen=True)
class RankJob:
    """What all ranks of one fold do together; a callable that submitit pickles by name."""

    run: str
    fold: int
    accelerator: str = "cpu"
    """`cpu` or `cuda`."""
    threads: int = 1
    """CPU threads of each rank."""
    devices: tuple[str, ...] | None = None
    """GPUs of this fold on this machine; None leaves them to the scheduler."""

    def __call__(self) -> None:
        """Do this rank's part of it."""
        from submitit import JobEnvironment

        collect_less_often()
        job = JobEnvironment()
        os.environ.update(self.environment(job))
        if job.cluster == "local":
            _die_with(int(job.job_id))
        folder, first = runs.fold_dir(Path(self.run), self.fold), job.global_rank == 0
        with left_to_later_start(folder):
            self._train(folder, job.paths.stderr, first)

    def environment(self, job: Any) -> dict[str, str]:
        """Variables for DeepSpeed and torch, from submitit's view of the job."""
        alone, start = job.num_nodes == 1, f"{job.job_id}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"
        values = {
            "RANK": job.global_rank,
            "LOCAL_RANK": job.local_rank,
            "WORLD_SIZE": job.num_tasks,
            "MASTER_ADDR": "127.0.0.1" if alone else job.hostnames[0],
            "MASTER_PORT": free_port() if job.num_tasks == 1 else port_of(start),
            "LOCAL_WORLD_SIZE": job.num_tasks // job.num_nodes,
            "OMP_NUM_THREADS": self.threads,
            cores.VARIABLE: self.threads,
            "DS_ACCELERATOR": self.accelerator,
        }
        if self.devices is not None:  # submitit gives every fold the same GPUs on one machine
            values["CUDA_VISIBLE_DEVICES"] = ",".join(self.devices)
        return {name: str(value) for name, value in values.items()}

    def _train(self, folder: Path, log: Path, first: bool) -> None:
        raise NotImplementedError


class FoldJob(Requeued, RankJob):
    """Trains the fold, from its last complete checkpoint if there is one."""

    def _train(self, folder: Path, log: Path, first: bool) -> None:
        stop = StopFlag()
        try:
            code_snapshot.verify(Path(self.run))
            from mmadfer.train.loop import train

            config = runs.read(Path(self.run)).config
            result = train(config, self.fold, folder, resume=True, stop=stop)
            if stop.cancelled and not result.finished:
                raise RunError(f"fold {self.fold} was stopped by SIGTERM and has saved: --resume goes on from there")
        except Exception as error:
            if isinstance(error, BusyError):  # the fold is well: another process trains it
                if stop.asked and not stop.cancelled and not isinstance(error, LostError):
                    stop.requeue()  # told to leave while it waited for the other: it waits on in the queue
            elif first:
                runs.mark_failed(folder, error, log)
            raise
        if result.finished:
            stop.end()
        else:
            stop.requeue()


@dataclass(frozen=True)
class MeasureJob(RankJob):
    """Trains a few steps of the fold with a clock; it leaves nothing to go on from, so it heeds no early signal."""

    folds: tuple[int, ...] = ()
    """Those that are to be trained later."""

    def _train(self, folder: Path, log: Path, first: bool) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # submitit does not listen to it
        signal.signal(compat.requeue_signal(), signal.SIG_IGN)
        try:
            code_snapshot.verify(Path(self.run))
            from mmadfer.train.measure import measure

            measure(runs.read(Path(self.run)).config, self.fold, self.folds, folder)
        except Exception as error:
            if first:
                runs.mark_failed(folder, error, log)
            raise


@dataclass(frozen=True)
class ReportJob(Requeued):
    """The report of a run, as a job of its own."""

    run: str

    def __call__(self) -> None:
        """Write RUN/report."""
        code_snapshot.verify(Path(self.run))
        from mmadfer.report import report

        report(Path(self.run), {})


@dataclass(frozen=True)
class ExportJob(Requeued):
    """The finished folds of a run as ONNX, as a job of its own."""

    run: str
    threads: int = 1

    def __call__(self) -> None:
        """Write RUN/export."""
        collect_less_often()
        code_snapshot.verify(Path(self.run))
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        from mmadfer.export.finished_folds import export_run

        export_run(Path(self.run))


class StopFlag:
    """The stop flag of one rank: raised by the signal, lowered by nobody."""

    def __init__(self) -> None:
        self.asked = self._requeued = False
        self._signal = compat.requeue_signal()
        self._submitit = signal.signal(self._signal, self._ask)
        signal.signal(signal.SIGTERM, self._ask)

    def __call__(self) -> bool:
        """Whether this rank was asked to stop."""
        return self.asked

    @property
    def cancelled(self) -> bool:
        """Whether this rank was asked to end for good (SIGTERM, as scancel sends), and not before a time limit."""
        return self.asked and not self._requeued

    def requeue(self) -> None:
        """Let submitit queue the job again (it does so on rank 0) and leave."""
        if callable(self._submitit):
            self._submitit(self._signal, None)

    def end(self) -> None:
        """Heed the early signal no more: the work is done, and Python, while it ends, would die of it as a failure."""
        signal.signal(self._signal, signal.SIG_IGN)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._requeued |= number == self._signal


def _die_with(parent: int) -> None:
    """Have the kernel end this process with submitit's local controller, so that no fold trains on unseen."""
    set_parent_death_signal = 1
    with suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before this line
        raise SystemExit("the launch was stopped")
