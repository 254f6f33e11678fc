"""Explain clips and write what was found: a folder for each clip, `explain.json` and `measures.csv`.

    OUT/explain.json                     method, model, clips with their parts and measures, and their means
    OUT/measures.csv                     a line for each part and modality
    OUT/CLIP/sheet.png                   frames, spectrogram and answer
    OUT/CLIP/frame-01.png …, sound.png   single pictures with heat
    OUT/CLIP/maps.npz                    importance as computed (`vision`, `audio`), when the frames are shown (`times`)
    OUT/CLIP/overlay.mp4                 see `mmadfer.explain.film`

Of a clip in windows, each window has its own sheet, pictures and maps: window-0001-sheet.png and so on.
"""

import re
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.errors import ClipError, ConfigError, DataError, MmadferError
from mmadfer.evaluation.explanation_scores import summary
from mmadfer.explain.drawing import colours, write_pictures, write_sheet
from mmadfer.explain.explainer import Explainer
from mmadfer.explain.film import Film
from mmadfer.explain.part import ExplainedPart
from mmadfer.explain.sources import Source
from mmadfer.runtime.inputs import VideoPart
from mmadfer.utils.csv_cells import cell, to_csv
from mmadfer.utils.files import atomic, check_place, read_object, sync, write_json, write_text
from mmadfer.utils.folders import some
from mmadfer.utils.names import in_utf8
from mmadfer.utils.progress import Meter
from mmadfer.utils.temporary_folders import take_place, workplace

INDEX = "explain.json"
TABLE = "measures.csv"
FILM = "overlay.mp4"
VERSION = 1
_MOST_BYTES = 150
"""Of a clip's name in that of its folder, in UTF-8."""


@dataclass
class Explained:
    """What was found."""

    about: dict[str, Any]
    clips: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[str, DataError]] = field(default_factory=list)

    def measures(self) -> dict[str, dict[str, dict[str, float]]]:
        """Modality -> measure -> mean and spread over clips; windows of a clip are averaged first."""
        rows: dict[str, list[dict[str, float]]] = {}
        for clip in self.clips:
            for name, measured in _of_clip(clip).items():
                rows.setdefault(name, []).append(measured)
        return {name: found for name, some in rows.items() if (found := summary(some))}

    def to_dict(self) -> dict[str, Any]:
        """For `explain.json`."""
        failures = [{"clip": name, "error": in_utf8(str(error))} for name, error in self.failures]
        return {
            "version": VERSION,
            **self.about,
            "measures": self.measures(),
            "clips": self.clips,
            "failures": failures,
        }

    def csv(self) -> str:
        """A line for each part and modality."""
        measured = [
            (clip["name"], part, name, row)
            for clip in self.clips
            for part in clip["parts"]
            for name, row in part.get("measures", {}).items()
        ]
        columns = list(dict.fromkeys(key for *_, row in measured for key in row))
        lines = [
            [
                cell(clip),
                f"{part['start']:.3f}",
                f"{part['end']:.3f}",
                name,
                *(f"{row[key]:.6f}" if key in row else "" for key in columns),
            ]
            for clip, part, name, row in measured
        ]
        return to_csv([["clip", "start", "end", "modality", *columns], *lines])


def _of_clip(clip: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Modality -> measure -> mean over the clip's windows."""
    found: dict[str, dict[str, list[float]]] = {}
    for part in clip["parts"]:
        for name, row in part.get("measures", {}).items():
            for key, number in row.items():
                found.setdefault(name, {}).setdefault(key, []).append(number)
    return {name: {key: float(np.mean(some)) for key, some in row.items()} for name, row in found.items()}


def check_out(out: Path) -> None:
    """Ask before the work, not after it.

    Raises:
        ConfigError: there is something else, or nothing can be written.
        MissingDependencyError: matplotlib is not installed.
    """
    colours("inferno")
    check_place(out, folder=True)
    _refuse_others(out)


def _refuse_others(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ConfigError(f"{out} is a file or a link: give another folder with --out")
    if out.is_dir() and (others := _others(out)):
        raise ConfigError(
            f"{out} holds something else than explanations: {some(others)}. Move that away, or give another folder "
            "with --out"
        )


def _others(out: Path) -> list[str]:
    """What a folder holds beside an index, its table and the folders that it names; without an index, all of it."""
    try:
        folders = {str(clip["folder"]) for clip in read_object(out / INDEX)["clips"]}
    except (MmadferError, OSError, LookupError, TypeError):
        return sorted(path.name for path in out.iterdir())
    return sorted(path.name for path in out.iterdir() if path.is_symlink() or not _ours(path, folders))


def _ours(path: Path, folders: Container[str]) -> bool:
    return path.name in folders if path.is_dir() else path.name in (INDEX, TABLE)


def explain_clips(
    sources: Sequence[Source], explainer: Explainer, out: Path, more: Mapping[str, Any] | None = None
) -> Explained:
    """Explain clips one by one; `out` is whole when the last is done, or stays as it was.

    A clip that cannot be read is told, and the others go on. Where none can be explained, nothing is written.
    What else is to stand in the index is `more`.

    Raises:
        ConfigError: as `check_out`.
    """
    explained = Explained({**_about(explainer), **(more or {})})
    with _folder(out) as place, Meter("explaining", len(sources), goes_on=False) as meter:
        names = {INDEX, TABLE}
        for source in sources:
            folder = place / _unique(source.folder, names)
            try:
                explained.clips.append(_explain_clip(source, explainer, folder))
            except DataError as error:
                shutil.rmtree(folder, ignore_errors=True)
                explained.failures.append((source.name, error))
            meter.step()
        if explained.clips:
            write_json(place / INDEX, explained.to_dict())
            write_text(place / TABLE, explained.csv())
    return explained


def _about(explainer: Explainer) -> dict[str, Any]:
    contract = explainer.contract
    model = {"file": in_utf8(explainer.path.name), "data_set": contract.data_set, "fold": contract.fold}
    return {
        "method": explainer.method,
        "layer": explainer.layer,
        "layers": contract.model.layers,
        "model": {**model, "weights_hash": contract.weights_hash, "version": contract.version},
    }


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` if the block has put an index in it, in the place of earlier explanations."""
    with workplace(out) as place:
        folder = place / "explained"
        folder.mkdir()
        yield folder
        if (folder / INDEX).is_file():
            _refuse_others(out)
            take_place(folder, out)
    sync(out.parent)


def _unique(name: str, given: set[str]) -> str:
    """A folder's name that every system knows, numbered until none of those given out, in lower case, is like it."""
    plain = re.sub(r"[^\w.-]+", "_", name).strip("._").encode()[:_MOST_BYTES].decode(errors="ignore") or "clip"
    numbered = (plain if number == 1 else f"{plain}-{number}" for number in count(1))
    found = next(one for one in numbered if one.lower() not in given)
    given.add(found.lower())
    return found


def _explain_clip(source: Source, explainer: Explainer, folder: Path) -> dict[str, Any]:
    """Explain a clip into a folder, and return what is told of it.

    Raises:
        DataError: it cannot be read, or no part of it can be explained.
    """
    folder.mkdir()
    names, parts = explainer.names, list[dict[str, Any]]()
    with atomic(folder / FILM) as path:
        pictures = source.pictures() if source.pictures else None
        with Film(path, pictures, source.sound, "vision" in names, "audio" in names, source.margin) as film:
            for number, (one, several) in enumerate(_looked_ahead(source.parts()), 1):
                prefix = f"window-{number:04d}-" * several
                part = _compared(source, one, explainer.explain(one)) if one.inputs is not None else None
                film.show(part, one.start, one.end)
                parts.append(_written(source, folder, prefix, one, part, explainer))
    if all("answer" not in part for part in parts):
        told = "; ".join(dict.fromkeys(note for part in parts for note in part["notes"]))
        raise ClipError(f"{source.name}: none of {len(parts)} windows can be explained: {told}")
    notes = {"notes": list(map(in_utf8, film.notes))} if film.notes else {}
    return {"name": source.name, **source.facts, "folder": folder.name, "film": FILM, **notes, "parts": parts}


def _compared(source: Source, one: VideoPart, part: ExplainedPart) -> ExplainedPart:
    more = source.compare(one, part.maps)
    names = [name for name in part.maps if name in part.measures or name in more]
    return replace(part, measures={name: {**part.measures.get(name, {}), **more.get(name, {})} for name in names})


def _looked_ahead(parts: Iterator[VideoPart]) -> Iterator[tuple[VideoPart, bool]]:
    """Parts, each with whether there are several."""
    first = next(parts)
    second = next(parts, None)
    yield first, second is not None
    if second is not None:
        yield second, True
    yield from ((part, True) for part in parts)


def _written(
    source: Source, folder: Path, prefix: str, one: VideoPart, part: ExplainedPart | None, explainer: Explainer
) -> dict[str, Any]:
    """Write the pictures of a part; what is told of it."""
    span = {"start": one.start, "end": one.end}
    if part is None:
        return {**span, "notes": [in_utf8(str(note)) for note in one.notes]}
    sheet = f"{prefix}sheet.png"
    write_sheet(folder / sheet, _title(source, part, explainer, bool(prefix)), part)
    pictures = write_pictures(folder, prefix, part)
    maps = f"{prefix}maps.npz"
    with atomic(folder / maps) as path, path.open("wb") as file:
        arrays: dict[str, Any] = {"times": part.times}
        arrays.update(part.maps.items())
        np.savez_compressed(file, **arrays)
    said: dict[str, Any] = {"label": part.label} if part.label else {}
    return {
        **span,
        **said,
        "target": part.target,
        "answer": part.answer,
        "sheet": sheet,
        "pictures": pictures,
        "maps": maps,
        "measures": part.measures,
        "notes": list(map(in_utf8, part.notes)),
    }


def _title(source: Source, part: ExplainedPart, explainer: Explainer, windowed: bool) -> str:
    words = [Path(source.name).name if not source.facts else source.name]
    if windowed:
        words.append(f"{part.start:.2f} to {part.end:.2f} s")
    if (truth := source.facts.get("truth")) is not None:
        words.append(f"truth: {truth if isinstance(truth, str) else _values(truth)}")
    said = f"says {part.label}" if part.label else _values(part.answer)
    words += [said, f"{explainer.method}, {_layer(explainer)}"]
    return "   ".join(words)


def _layer(explainer: Explainer) -> str:
    return f"layer {explainer.layer}" + " (the last)" * (explainer.layer == explainer.contract.model.layers - 1)


def _values(numbers: dict[str, float]) -> str:
    return ", ".join(f"{name} {number:.3f}" for name, number in numbers.items())
