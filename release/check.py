"""`make release`: builds the source distribution and the wheel of the commit, and tries both. It uploads nothing.

What may be given away is in build/release/dist. `--full` installs the demo's packages anew, instead of using
those of .venv; `--no-demo` leaves out the demo, and with it the predictions of its model.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RELEASE = ROOT / "build" / "release"
DIST, SOURCE, DEMO = RELEASE / "dist", RELEASE / "source", RELEASE / "demo"
TOOLS = Path(sys.executable).parent
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
MADE = ("PKG-INFO", "setup.cfg", "mmadfer.egg-info/")
"""What a source distribution has beside the files of the commit."""
LEAST = 8
"""Of pyroma's ten points: two are for an address of the project and one of its authors, which are not known."""
CLOSE = 1e-5
"""By which probabilities of one model may differ between versions of Python and NumPy."""


def main() -> None:
    """Build, check, try; stops at the first thing that is wrong."""
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the demo in a wholly fresh environment")
    parser.add_argument("--no-demo", action="store_true", help="neither the demo nor predictions of its model")
    asked = parser.parse_args()
    commit = take_commit()
    wheel, sdist = build(SOURCE, DIST, commit)
    check_again(wheel, sdist, commit)
    check_members(wheel, sdist)
    run(TOOLS / "twine", "check", "--strict", wheel, sdist)
    run(TOOLS / "pyroma", "--min", str(LEAST), sdist)
    if not asked.no_demo:
        run_demo(wheel, asked.full)
    tried = [version for version in VERSIONS if try_python(version, wheel, predicts=not asked.no_demo)]
    list_parts(wheel, tried[0])
    sums()
    say(f"{DIST.relative_to(ROOT)} is ready: {', '.join(sorted(path.name for path in DIST.iterdir()))}")
    say(f"Tried with Python {', '.join(tried)}; not here: {', '.join(sorted(set(VERSIONS) - set(tried))) or 'none'}.")


def say(text: str) -> None:
    """Print a line of this program's own."""
    print(f"== {text}", flush=True)


def fail(text: str) -> None:
    """End, saying what is wrong."""
    sys.exit(f"make release: {text}")


def run(*words: str | Path, cwd: Path = ROOT, **settings: str) -> str:
    """What a program prints; ends where it fails. None of Python's own settings of this process reach it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | settings
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"this failed: {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done.stdout


def pip(python: Path, *words: str | Path, **settings: str) -> None:
    """Install into an environment, which needs no pip of its own."""
    run(TOOLS / "python", "-m", "pip", "--disable-pip-version-check", "--python", python, "install", *words, **settings)


def take_commit() -> str:
    """Put the files of the commit, and nothing else, into `SOURCE`; returns the commit's time in seconds."""
    if changed := run("git", "status", "--porcelain").strip():
        fail(f"a release is a commit, and these files differ from it: commit them, or remove them\n{changed}")
    for folder in (DIST, SOURCE):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    archive = RELEASE / "commit.tar"
    run("git", "archive", "--output", archive, "HEAD")
    with tarfile.open(archive) as file:
        file.extractall(SOURCE, filter="data")
    archive.unlink()
    return run("git", "log", "-1", "--format=%ct").strip()


def build(source: Path, out: Path, seconds: str) -> tuple[Path, Path]:
    """The wheel and the source distribution of a tree, built in an environment of their own."""
    settings = {"SOURCE_DATE_EPOCH": seconds, "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
    run(TOOLS / "python", "-m", "build", "--outdir", out, source, **settings)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    repack(sdist, int(seconds))
    say(f"built {wheel.name} and {sdist.name}")
    return wheel, sdist


def repack(path: Path, seconds: int) -> None:
    """Take out of a source distribution when, where and by whom it was packed; setuptools leaves that in."""
    with tarfile.open(path) as old:
        files = [(one, old.extractfile(one).read()) for one in old.getmembers() if one.isfile()]
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as new:
        for one, data in sorted(files, key=lambda file: file[0].name):
            member = tarfile.TarInfo(one.name)
            member.size, member.mtime, member.mode = len(data), seconds, 0o755 if one.mode & 0o100 else 0o644
            new.addfile(member, io.BytesIO(data))
    path.write_bytes(gzip.compress(plain.getvalue(), mtime=seconds))


def check_again(wheel: Path, sdist: Path, seconds: str) -> None:
    """Whether the source distribution, unpacked elsewhere without what its making added, makes the same bytes again."""
    folder = RELEASE / "again"
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(sdist) as file:
        file.extractall(folder, [one for one in file if not one.name.partition("/")[2].startswith(MADE)], filter="data")
    (source,) = folder.iterdir()
    for first, second in zip((wheel, sdist), build(source, folder / "dist", seconds), strict=True):
        if first.read_bytes() != second.read_bytes():
            fail(f"{first.name}: other bytes when it is built again from its source ({second})")
    shutil.rmtree(folder)


def check_members(wheel: Path, sdist: Path) -> None:
    """Whether the source distribution is the commit, and the wheel its package with licences and nothing else."""
    tracked = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*") if path.is_file()}
    tracked = {name for name in tracked if not name.startswith(MADE)}
    with tarfile.open(sdist) as file:
        found = {name.partition("/")[2] for name in file.getnames()}
    same(sdist, {name for name in found if not name.startswith(MADE)}, tracked)
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    about = {name for name in names if ".dist-info/" in name}
    same(wheel, names - about, {name for name in tracked if name.startswith("mmadfer/")})
    licences = {name.partition("/licenses/")[2] for name in about}
    if missing := {name for name in tracked if Path(name).name == "LICENSE"} - licences:
        fail(f"{wheel.name} lacks the licences {sorted(missing)}")


def same(path: Path, found: set[str], wanted: set[str]) -> None:
    """End where a file does not hold what it should."""
    if found != wanted:
        fail(f"{path.name} lacks {sorted(wanted - found)}, and should not have {sorted(found - wanted)}")


def environment(name: str, python: Path) -> Path:
    """Python of a fresh environment."""
    folder = RELEASE / name
    run(python, "-m", "venv", "--clear", "--without-pip", folder)
    return folder / "bin" / "python"


def run_demo(wheel: Path, full: bool) -> None:
    """From toy videos to a prediction, by the installed wheel, away from the source."""
    python = environment("demo-env", ROOT / ".venv" / "bin" / "python")
    pip(python, "--no-deps", "--no-index", wheel)  # first: .venv has an mmadfer of its own
    if full:
        pip(python, "--require-hashes", "-r", SOURCE / "requirements-train.lock")
    else:
        lend(python)
    DEMO.mkdir(exist_ok=True)
    where = Path(run(python, "-c", "import mmadfer; print(mmadfer.__file__)", cwd=DEMO).strip())
    if not where.is_relative_to(RELEASE):
        fail(f"the demo would run {where}, not the wheel")
    say("the demo, by the wheel: 6 to 8 minutes on 2 cores")
    subprocess.run([python, "-m", "mmadfer.cli.demo"], cwd=DEMO, check=True)


def lend(python: Path) -> None:
    """Let an environment use the packages of .venv, behind its own."""
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    folder, lent = (run(one, "-c", ask).strip() for one in (python, ROOT / ".venv" / "bin" / "python"))
    (Path(folder) / "others.pth").write_text(f"import site; site.addsitedir({lent!r})\n", encoding="utf-8")


def try_python(version: str, wheel: Path, predicts: bool) -> bool:
    """Install the wheel with `serve` by hashes, and predict; False where this Python is not here."""
    base = next(interpreters(version), None)
    if base is None:
        return False
    python = environment(f"serve-{version}", base)
    pip(python, "--require-hashes", "-r", SOURCE / "requirements-serve.lock")
    pip(python, "--no-index", f"{wheel}[serve]")
    run(python, "-m", "mmadfer", "doctor", cwd=RELEASE)
    if predicts:
        check_prediction(python, RELEASE / f"prediction-{version}.json")
    say(f"Python {version}: installed by hashes{', predicts as the demo did' if predicts else ''}")
    return True


def interpreters(version: str) -> Iterator[Path]:
    """Programs of a version of Python that run, on the path or kept by pyenv."""
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [shutil.which(f"python{version}"), *sorted(kept.glob(f"{version}.*/bin/python{version}"), reverse=True)]
    for path in filter(None, found):
        if not subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode:
            yield Path(path)


def check_prediction(python: Path, out: Path) -> None:
    """Whether the demo's model answers as it did in the demo."""
    made = DEMO / "build" / "demo"
    run(
        python,
        "-m",
        "mmadfer",
        "predict",
        made / "video.mp4",
        "--model",
        made / "model.onnx",
        "--out",
        out,
        cwd=RELEASE,
    )
    (here,), (there,) = (json.loads(path.read_text(encoding="utf-8")) for path in (out, made / "prediction.json"))
    near = all(abs(here["probabilities"][label] - one) < CLOSE for label, one in there["probabilities"].items())
    if here["label"] != there["label"] or not near:
        fail(f"{out} differs from {made / 'prediction.json'}")


def list_parts(wheel: Path, version: str) -> None:
    """Bills of materials (CycloneDX): of the environment with `serve`, and of what the other locks install."""
    python = RELEASE / f"serve-{version}" / "bin" / "python"
    list_of("serve", wheel, "environment", python)
    for lock in sorted(SOURCE.glob("requirements-*.lock")):
        shutil.copy(lock, DIST)
        if lock.stem != "requirements-serve":
            list_of(lock.stem.partition("-")[2], wheel, "requirements", lock)


def list_of(what: str, wheel: Path, kind: str, source: Path) -> None:
    """One bill of materials, with the version, which pyproject.toml leaves to the code."""
    number = wheel.name.split("-")[1]
    out = DIST / f"mmadfer-{number}-{what}.cdx.json"
    words = ("--output-reproducible", "--output-format", "JSON", "--pyproject", SOURCE / "pyproject.toml")
    run(TOOLS / "cyclonedx-py", kind, *words, "--output-file", out, source)
    bill = json.loads(out.read_text(encoding="utf-8"))
    bill["metadata"]["component"]["version"] = number
    out.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")


def sums() -> None:
    """SHA-256 of every file, as `sha256sum --check` reads it."""
    files: Iterable[Path] = sorted(DIST.iterdir())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (DIST / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
