"""Whether a run, store, model, engine or Triton repository is whole: `mmadfer doctor PATH`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zipfile import is_zipfile

import typer

from mmadfer.errors import ConfigError, DataError, MmadferError, RunError
from mmadfer.utils.terminal import say

if TYPE_CHECKING:
    from mmadfer.data.store.store import Store

_MAX_SHOWN = 20
"""Clips that are named."""
_MODELS = (".onnx", ".engine", ".safetensors", ".pth", ".pt")


def doctor(
    path: Annotated[
        Path | None, typer.Argument(help="A run, store, model, engine or Triton repository to verify.")
    ] = None,
    media: Annotated[
        bool, typer.Option("--media", help="Also compare a store's media files with what they were.")
    ] = False,
) -> None:
    """Say what this machine can do and how to mend what it lacks, or verify what lies at PATH."""
    if path is None:
        from mmadfer.cli.doctor_machine import show_machine

        if media:
            raise ConfigError("--media compares the media files of a store: name it")
        show_machine()
    else:
        examine(path, media)


def examine(path: Path, media: bool = False) -> None:
    """Verify what lies at a path, and print what it is.

    Raises:
        MmadferError: it is not whole, or cannot be used here; says what is wrong, and what to do.
        ConfigError: `media` of something that is no store.
    """
    check = _check_of(path)
    if media and check is not None:
        raise ConfigError(f"--media compares the media files of a store, and {path} is none: leave it out")
    if check is None:
        store(path, media)
    else:
        check(path)


def _check_of(path: Path) -> Callable[[Path], None] | None:
    """What examines it; None: it is taken for a store."""
    if (path / "config.yaml").is_file():
        return run
    if path.is_dir() and any(path.glob("*_read/config.pbtxt")):
        return repository
    if path.is_file() and path.suffix.lower() not in (*_MODELS, ".store") and not is_zipfile(path):
        raise DataError(
            f"{path} is nothing that doctor knows: give a run, a store, a model ({', '.join(_MODELS)}) or a Triton "
            "repository"
        )
    return model if path.suffix.lower() in _MODELS else None


def run(path: Path) -> None:
    """Verify the checkpoints of every fold of a run, and its copy of the code; print how each fold stands.

    Raises:
        RunError: something is damaged, or gone; all of it is named.
    """
    from mmadfer.run import code_snapshot, directory

    config, wrong = directory.read(path).config, list[str]()
    if config.data.store is not None and not config.data.store.exists():
        wrong.append(f"its store {config.data.store} is not there: --resume needs it (data.store)")
    try:
        code_snapshot.verify(path)
    except MmadferError as error:
        wrong.append(str(error))
    for fold in directory.folds(path):
        wrong.extend(f"fold {fold}: {one}" for one in _fold(directory.fold_dir(path, fold), fold))
    if wrong:
        raise RunError("\n".join([f"{path}: {len(wrong)} things are wrong", *(f"  {one}" for one in wrong)]))
    say(f"{path}: all that is there is whole")


def _fold(folder: Path, number: int) -> Iterator[str]:
    """Print how a fold stands; yields what is wrong with it."""
    from mmadfer.run import checkpoint_state, directory
    from mmadfer.run.lease import holder

    owner, checkpoints = holder(folder), directory.published(folder / "checkpoints")
    if owner is None:  # while it trains, checkpoints come and go
        yield from (f"checkpoint {one.name}: {told}" for one in checkpoints if (told := checkpoint_state.damage(one)))
    result = directory.result(folder)
    if (folder / "result.json").exists() and result is None:
        yield "result.json is damaged, or not of a finished training: remove it, and go on with --resume"
    if failed := directory.failure(folder):
        say(f"fold {number} failed: {failed['reason']}")
    state = f"is being trained by {owner}" if owner else "finished" if result else "not finished"
    say(f"fold {number} {state}; checkpoints: {len(checkpoints)}")


def model(path: Path) -> None:
    """Open a model with what computes it here, and compute an empty clip; print what it is.

    Raises:
        MmadferError: it cannot be read, is not what was written, or does not run here.
    """
    from mmadfer.runtime.recogniser import Recogniser

    _engine_files(path)
    recogniser = Recogniser(path).warm()
    contract = recogniser.contract
    names = ", ".join(contract.names)
    say(f"{path}: opens with {recogniser.backend_name}, and computes an empty clip")
    say(f"{contract.output}: {names}; data set {contract.data_set or 'not known'}, weights {contract.weights_hash}")


def _engine_files(path: Path) -> None:
    """Say that an engine's files are whole before it is asked whether it runs here, which few machines can tell."""
    from mmadfer.runtime.backends import engines

    if path.suffix.lower() != engines.ENGINE_SUFFIX:
        return
    sidecar = engines.read_sidecar(path)
    engines.check_engine_files(path, sidecar)
    built = f", for {sidecar.gpu}" if sidecar.gpu else ""
    say(f"{path}: the engine of {engines.sidecar_path(path).name}, whole; {sidecar.flavour} {sidecar.version}{built}")


def repository(path: Path) -> None:
    """Whether a Triton repository is as `mmadfer export triton` wrote it.

    Raises:
        WeightsError: a part is gone, or is of another model.
    """
    from mmadfer.export.server.check import check_repository

    say(f"{path}: {check_repository(path)}")


def store(path: Path, media: bool = False) -> None:
    """Verify every record of a store, and with `media` also whether its clips' files are still what they were.

    Raises:
        DataError: records whose checksum does not hold, or files that are gone or changed, by name.
    """
    from mmadfer.data.store.store import Store
    from mmadfer.utils.progress import Meter

    with Store(path) as opened:
        with Meter("verifying", len(opened), goes_on=False) as meter:
            bad = opened.verify(meter.step)
        changed = _changed(opened) if media else {}
    wrong = list[str]()
    if bad:
        wrong.append(f"{len(bad)} of {len(opened)} records are damaged ({_some(bad)}): copy it again, or prepare anew")
    if changed:
        how = _some([f"{name} {what}" for name, what in changed.items()])
        wrong.append(f"the media files of {len(changed)} of {len(opened)} clips are not what they were ({how})")
    if wrong:
        raise DataError(f"{path}: {'; '.join(wrong)}")
    say(f"{path}: {len(opened)} clips, all checksums hold{', and their media files are unchanged' if media else ''}")
    say(f"targets: {_targets(opened)}; splits: {_splits(opened)}{_landmarks(opened)}")


def _targets(opened: "Store") -> str:
    return ", ".join(f"{name} ({found.kind}: {_some(list(found.names))})" for name, found in opened.targets.items())


def _landmarks(opened: "Store") -> str:
    if not opened.header.landmarks:
        return ""
    found, frames = (sum(getattr(clip, name) for clip in opened.clips.values()) for name in ("landmarked", "frames"))
    return f"; landmarks: in {found:,} of {frames:,} frames ({opened.header.landmarks})"


def _splits(opened: "Store") -> str:
    from mmadfer.data.store import splits

    def folds(name: str) -> str:
        if name == splits.BY_SUBJECT:
            return f"data.folds folds of {len({clip.subject for clip in opened.clips.values()})} subjects"
        count = len(opened.split(name).folds)
        return f"{count} fold{'s' * (count != 1)}"

    return ", ".join(f"{name} ({folds(name)})" for name in splits.names(opened.clips))


def _changed(opened: "Store") -> dict[str, str]:
    """Clip id -> in what its files are not what they were; all are read, whatever their dates."""
    from mmadfer.data.store.source_files import changed_files
    from mmadfer.utils.progress import Meter

    files = {name: opened.files(name) for name in opened.clips}
    with Meter("looking at media files", len(files), goes_on=False) as meter:
        return changed_files(files, opened.digests, {}, meter.step)[0]


def _some(names: list[str]) -> str:
    return ", ".join(names[:_MAX_SHOWN]) + (f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else "")
