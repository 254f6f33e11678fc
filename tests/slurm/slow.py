"""A Python that sleeps where a test says, so that faults hit training half-way; mmadfer itself knows nothing of it.

It is a virtual environment over this one. A job that is submitted by it also runs in it, as submitit names the Python
that it was started by; scripts find its `mmadfer` where its folder is first on PATH.
"""

import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path

STEP = "mmadfer.train.deepspeed_engine:Engine.step"
SAVE = "mmadfer.train.deepspeed_engine:Engine.save"  # while the checkpoint has its temporary name

HOOK = """
import json, sys, time
from functools import wraps
from importlib.machinery import PathFinder
from pathlib import Path

PACE = Path({pace!r})


def slowed(function, point):
    @wraps(function)
    def wait_and_do(*args, **kwargs):
        time.sleep(json.loads(PACE.read_text()).get(point, 0))  # read each time: a test may change its mind
        return function(*args, **kwargs)

    return wait_and_do


class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        points = [point for point in {points!r} if point.split(":")[0] == name]
        spec = super().find_spec(name, path, target) if points else None
        if spec is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (run(module), slow(module, points))[0]
        return spec


def slow(module, points):
    for point in points:
        *owner, name = point.split(":")[1].split(".")
        holder = module
        for part in owner:
            holder = getattr(holder, part)
        setattr(holder, name, slowed(getattr(holder, name), point))


sys.meta_path.insert(0, Finder)
"""


class Slow:
    """`python` runs as this one does, but waits at `points` ("module:name" of functions) as long as `set` has said."""

    def __init__(self, folder: Path, points: tuple[str, ...] = (STEP, SAVE)) -> None:
        self._pace, self.points = folder / "pace.json", points
        self.python = folder / "bin" / "python"
        site = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
        for made in (self.python.parent, site):
            made.mkdir(parents=True)
        self.python.symlink_to(sys.executable)
        shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
        (site / "slow_hook.py").write_text(HOOK.format(pace=str(self._pace), points=points))
        real = sysconfig.get_path("purelib")
        (site / "slow.pth").write_text(f"import site; site.addsitedir({real!r})\nimport slow_hook\n")
        program = self.python.with_name("mmadfer")  # for job scripts that find it on PATH
        program.write_text(f"#!{self.python}\nimport sys\nfrom mmadfer.cli.main import main\nsys.exit(main())\n")
        program.chmod(0o755)
        self.set()

    def set(self, step: float = 0.0, save: float = 0.0, **more: float) -> None:
        """Seconds to sleep before each step and each save from now on, also in processes that run already."""
        beside = self._pace.with_suffix(".new")
        beside.write_text(json.dumps({STEP: step, SAVE: save, **more}))
        os.replace(beside, self._pace)
