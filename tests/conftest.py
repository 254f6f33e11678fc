import time
from pathlib import Path
from typing import Any

import pytest

from mmadfer.utils.garbage import collect_less_often

collect_less_often()  # each worker imports what all of mmadfer does, and more

CLUSTER = "tests/slurm"
FAULTS = Path(__file__).parents[1] / "build" / "slurm_faults.md"
BEGUN = time.time()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table that the fault tests of tests/slurm have written, if they have run."""
    if FAULTS.exists() and FAULTS.stat().st_mtime >= BEGUN:
        terminalreporter.section("faults on SLURM")
        terminalreporter.write(FAULTS.read_text())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """As --dist loadfile, but all tests that share the cluster are one worker's, and the first to be handed out.

    They take longest and mostly wait. (With --dist loadgroup every other file would need a group of its own, and every
    test's name would end in it.)
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return CLUSTER if nodeid.startswith(f"{CLUSTER}/") else super()._split_scope(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            if CLUSTER in self.workqueue:
                self.workqueue.move_to_end(CLUSTER, last=False)
            super()._assign_work_unit(node)

    return Scheduling(config, log)
