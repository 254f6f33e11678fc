import time
from pathlib import Path
from typing import Any

import pytest

from mmadfer.utils.garbage import collect_less_often

collect_less_often()  # each worker imports what all of mmadfer does, and more

CLUSTER = "tests/slurm"
LONG = (CLUSTER, "tests/train/", "tests/export/", "tests/launch/", "tests/extending/", "tests/faults/", "tests/test_")
"""Where the files are that take minutes, the longest first."""
ROOT = Path(__file__).parents[1]
FAULTS = ROOT / "build" / "slurm_faults.md"
BEGUN = time.time()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table that the fault tests of tests/slurm have written, if they have run."""
    if FAULTS.exists() and FAULTS.stat().st_mtime >= BEGUN:
        terminalreporter.section("faults on SLURM")
        terminalreporter.write(FAULTS.read_text())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """As --dist loadfile, but all tests that share the cluster are one worker's, and what takes long goes out first.

    Those of the cluster take longest and mostly wait. (With --dist loadgroup every other file would need a group of its
    own, and every test's name would end in it.) By itself xdist begins with the files of most tests, which are quick
    ones, and at the end one worker is left with a long file.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return CLUSTER if nodeid.startswith(f"{CLUSTER}/") else super()._split_scope(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            self.workqueue.move_to_end(min(self.workqueue, key=_turn), last=False)
            super()._assign_work_unit(node)

    return Scheduling(config, log)


def _turn(scope: str) -> int:
    """The place of a file in the order; of equal ones the first in the queue, which has most tests, is taken."""
    place = next((turn for turn, start in enumerate(LONG) if scope.startswith(start)), None)
    return len(LONG) + ("mark.slow" not in (ROOT / scope).read_text()) if place is None else place
