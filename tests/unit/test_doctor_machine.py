"""What `mmadfer doctor` says of this machine."""

import errno
import fcntl
from pathlib import Path

import pytest

from mmadfer.cli import doctor_machine
from mmadfer.cli.doctor_machine import findings, show_machine
from mmadfer.utils import cores


def test_what_is_here_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = {one.what: one for one in findings()}
    assert f"CPU cores granted to this process: {cores.granted()}" in found["CPU"].here
    assert "GiB free of" in found["memory"].here
    assert found["file locks here"].lack == ""
    assert found["FFmpeg"].here[0].isdigit()
    assert found["torch"].here[0].isdigit()
    show_machine()
    said = capsys.readouterr().out
    assert all(one.lack in said for one in found.values())


def test_a_package_that_is_missing_is_told_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "_PACKAGES", {"no-such-package": ("gpu", "prediction on GPUs")})
    last = list(findings())[-1]
    assert last[:2] == ("no-such-package", "not installed")
    assert last.lack.startswith("prediction on GPUs: pip install '.[gpu]'")


def test_nobody_is_told_to_install_what_breaks_the_other() -> None:
    found = {one.what: one for one in findings()}
    one, other = found["onnxruntime"], found["onnxruntime-gpu"]
    assert "not installed" in (one.here, other.here)
    assert (one.lack, other.lack) == ("", "")


def test_instruction_sets_are_named(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("model name\t: a\nflags\t\t: fpu avx2 amx_int8 avx512_vnni\n")
    assert doctor_machine._instructions(tmp_path / "cpuinfo") == ["avx2", "avx512_vnni", "amx_int8"]
    assert doctor_machine._instructions(tmp_path / "none") == []


def test_memory_is_what_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  8388608 kB\nMemAvailable: 2097152 kB\n")
    assert doctor_machine._memory(tmp_path / "meminfo").here.startswith("2.0 GiB free of 8.0 GiB")
    assert doctor_machine._memory(tmp_path / "none").here == "the system does not tell"


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    assert doctor_machine._locks(tmp_path).lack == ""
    monkeypatch.setattr(fcntl, "flock", without)
    assert "NFS 4" in doctor_machine._locks(tmp_path).lack


def test_a_cluster_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"sbatch": "slurm 23.11", "srun": "", "scontrol": "Slurmctld(primary) at n1 is DOWN"}.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{text}'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert doctor_machine._slurm().here == "does not answer"
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho 'Slurmctld(primary) at n1 is UP'\n")
    assert doctor_machine._slurm() == ("SLURM", "slurm 23.11", "")
    monkeypatch.setenv("PATH", "/nothing")
    assert "`launch` trains on this machine" in doctor_machine._slurm().here
