"""A run's copy of the code: jobs run it as it was made, and not because it came with the folder."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from launch_setup import said

from mmadfer.config import schema as configs
from mmadfer.errors import FileError, RunError
from mmadfer.launch import launching
from mmadfer.launch.jobs import FoldJob, ReportJob
from mmadfer.run import code_snapshot
from mmadfer.run import directory as runs
from mmadfer.utils.files import sha256


def listed(run: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((run / "code.json").read_text())
    return found


def marked(run: Path) -> None:
    """Change the copy and its list, as one who hands over a run can, or as an installed code that has moved on."""
    file = run / "code" / "mmadfer" / "launch" / "__init__.py"
    file.write_text(file.read_text() + "MARK = 1\n")
    (run / "code.json").write_text(json.dumps({**listed(run), "mmadfer/launch/__init__.py": sha256(file)}))


def test_jobs_import_the_copy_of_the_code_and_leave_nothing_in_it(tmp_path: Path) -> None:
    code = code_snapshot.take_copy(tmp_path)
    assert code_snapshot.check_copy(tmp_path) == []
    assert listed(tmp_path).keys() == code_snapshot.sources().keys()
    marked(tmp_path)
    assert code_snapshot.take_copy(tmp_path) == code  # kept: the run began with it
    names = "mmadfer, mmadfer.launch, mmadfer.export, mmadfer.config.schema"
    program = f"import {names}; print(mmadfer.launch.MARK, *(m.__file__ for m in ({names})))"
    for where in (tmp_path, Path(__file__).parents[2]):  # from the source tree too
        (tmp_path / "program.py").write_text(program)
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=code_snapshot.environment(tmp_path),
            cwd=where,
            capture_output=True,
            text=True,
            check=True,
        )
        mark, *files = done.stdout.split()
        assert mark == "1"
        assert all(Path(file).is_relative_to(code) for file in files)
    code_snapshot.verify(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def _file(name: str) -> Callable[[Path], str]:
    def plant(code: Path) -> str:
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_bytes(b"open('ran', 'w')\n")
        return name

    return plant


def _link(code: Path) -> str:
    (code.parent / "elsewhere").mkdir()
    (code / "torch").symlink_to(code.parent / "elsewhere")
    return "torch"


def _link_in_the_place_of_a_file(code: Path) -> str:
    name = "mmadfer/errors.py"
    (code / name).rename(code.parent / "errors.py")
    (code / name).symlink_to(code.parent / "errors.py")
    return name


def _pipe(code: Path) -> str:
    os.mkfifo(code / "mmadfer" / "errors.so")
    return "mmadfer/errors.so"


def _gone(code: Path) -> str:
    (code / "mmadfer" / "errors.py").unlink()
    return "mmadfer/errors.py"


PLANTED = {
    name: _file(name)
    for name in (
        *("sitecustomize.pyc", "sitecustomize.py", "usercustomize.py", "json.py", "torch/__init__.py", "x.pth"),
        *("mmadfer/errors.py", "mmadfer/errors.abi3.so", "mmadfer/__pycache__/errors.cpython-311.pyc", "y.egg-link"),
        *("mmadfer_extra/nested/z.py", "plain"),
    )
}


@pytest.mark.parametrize(
    "plant", [*PLANTED.values(), _link, _link_in_the_place_of_a_file, _pipe, _gone], ids=lambda plant: plant.__name__
)
def test_a_copy_with_another_file_is_not_run_and_the_file_is_named(
    tmp_path: Path, plant: Callable[[Path], str]
) -> None:
    name = plant(code_snapshot.take_copy(tmp_path))
    for attempt in (
        lambda: code_snapshot.check_copy(tmp_path),
        lambda: code_snapshot.check_copy(tmp_path, trust=True),
        ReportJob(str(tmp_path)),
    ):
        with pytest.raises(RunError, match=f"code/{name} .*installed code"):
            attempt()


@pytest.mark.parametrize("name", PLANTED)
def test_a_list_that_came_with_the_copy_is_not_believed(tmp_path: Path, name: str) -> None:
    code = code_snapshot.take_copy(tmp_path)
    PLANTED[name](code)
    (tmp_path / "code.json").write_text(json.dumps({**listed(tmp_path), name: sha256(code / name)}))
    with pytest.raises(RunError, match=f"not the installed code .*: {name} differs.*--trust-code"):
        code_snapshot.check_copy(tmp_path)
    assert code_snapshot.check_copy(tmp_path, trust=True) == [name]


def test_a_copy_without_a_list_is_compared_with_the_installed_code_and_gets_one(tmp_path: Path) -> None:
    code = code_snapshot.take_copy(tmp_path)
    (tmp_path / "code.json").unlink()
    assert code_snapshot.check_copy(tmp_path) == []
    code_snapshot.take_copy(tmp_path)
    assert listed(tmp_path).keys() == code_snapshot.sources().keys()
    (tmp_path / "code.json").unlink()
    _file("json.py")(code)
    with pytest.raises(RunError, match=r"json\.py differs"):
        code_snapshot.check_copy(tmp_path)
    (tmp_path / "code.json").write_text("[]")
    with pytest.raises(FileError, match=r"code\.json must hold a JSON object"):
        code_snapshot.check_copy(tmp_path, trust=True)


def test_a_launch_refuses_a_copy_of_others_before_it_makes_anything(five: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    runs.create(run, configs.load(five))
    marked(code_snapshot.take_copy(run).parent)
    before = sorted(path.relative_to(run) for path in run.rglob("*"))
    for words in (("resume", run), (five, "--run", run, "--resume")):
        for more in ((), ("--dry-run",)):
            result = said(*words, "--cluster", "local", *more)
            assert isinstance(result.exception, RunError)
            assert "--trust-code goes on with its copy" in str(result.exception)
    assert sorted(path.relative_to(run) for path in run.rglob("*")) == before
    trusted = said("resume", run, "--cluster", "local", "--trust-code", "--dry-run")
    assert trusted.exit_code == 0, trusted.exception


def test_a_job_looks_again_and_says_why_it_does_not_begin(five: Path, tmp_path: Path) -> None:
    run = runs.create(tmp_path / "run", configs.load(five))
    _file("json.py")(code_snapshot.take_copy(run.path))
    with pytest.raises(RunError, match=r"json\.py was added"):
        FoldJob(str(run.path), 1)._train(run.fold(1), tmp_path / "log", first=True)
    assert "json.py was added" in (runs.failure(run.fold(1)) or {})["reason"]


def test_a_row_of_a_sweep_has_the_list_of_the_sweep(tmp_path: Path) -> None:
    code, row = code_snapshot.take_copy(tmp_path), tmp_path / "row"
    row.mkdir()
    code_snapshot.share(code, row)
    assert code_snapshot.check_copy(row) == []
    _file("json.py")(code)
    with pytest.raises(RunError, match=r"json\.py was added"):
        code_snapshot.check_copy(row)
    assert not (row / "code.json").exists()


def test_what_lies_in_the_place_of_the_copy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "code").symlink_to("nowhere")
    with pytest.raises(RunError, match="remove it"):
        code_snapshot.check_copy(tmp_path)


def test_no_job_meets_links_or_pickles_of_earlier_ones(tmp_path: Path) -> None:
    jobs, mine = tmp_path / "jobs", tmp_path / "mine"
    jobs.mkdir()
    mine.write_text("precious")
    (jobs / "77_submitted.pkl").write_bytes(b"")
    launching.clear_jobs(jobs)
    assert [*jobs.iterdir()] == []
    (jobs / "77_0_log.err").symlink_to(mine)
    with pytest.raises(RunError, match=r"77_0_log\.err is a link"):
        launching.clear_jobs(jobs)
