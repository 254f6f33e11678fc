"""What preparation did: counts and left-out clips, as a table for a person and JSON for a program."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table as Grid

from mmadfer.data.compatibility import sound_rates
from mmadfer.data.faces.landmarks68 import TENSOR
from mmadfer.data.sets import ClipTable
from mmadfer.data.store.store import Clip
from mmadfer.errors import DataError
from mmadfer.utils.console import Console
from mmadfer.utils.files import write_json
from mmadfer.utils.folders import some

_MAX_SHOWN = 12
"""Left-out clips that a person is shown; the report has them all."""


@dataclass(frozen=True)
class _LeftOutClip:
    """A clip that is not in the store."""

    id: str
    media: str
    label: str
    reason: str
    """As in `ClipError`."""
    detail: str


@dataclass(frozen=True)
class Summary:
    """What is in a store, and what is not."""

    out: Path
    data_set: str
    counts: dict[str, tuple[int, int]]
    """Label -> clips kept, clips left out; "" where clips have none."""
    folds: dict[int, int]
    """Fold -> clips kept."""
    frames: int
    left: list[_LeftOutClip]
    duplicates: list[list[str]]
    """Ids of clips whose files are the same, byte for byte; all are kept."""
    silent: list[str]
    """Ids of clips whose sound is nothing but zeros; they are kept."""
    remarks: dict[str, str]
    """Id -> what else is to be known of a clip that is kept, such as damage in places, or why it has no sound."""
    silenced: list[str]
    """Ids of clips that have no sound, and are kept with silence in its place (`prepare.no_sound`)."""
    rates: dict[int, int]
    """Of the clips' sound in Hz -> clips."""
    warnings: list[str]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    bytes: int = 0
    """Of the store."""
    landmarked: dict[str, float] = field(default_factory=dict)
    """Id -> share of frames with reliable landmarks, of clips that preparation has found landmarks of."""
    named: dict[str, dict[str, int]] = field(default_factory=dict)
    """`targets` other than `label`, named `tensors`, and `splits` with their parts -> clips that have each."""
    already: bool = False
    """The store was there, made of the same files with the same settings."""

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """Id and reason of every clip that is not in the store."""
        return [(clip.id, clip.reason) for clip in self.left]

    @property
    def without_landmarks(self) -> list[str]:
        """Ids of clips in no frame of which reliable landmarks were found."""
        return [name for name, share in self.landmarked.items() if not share]

    @property
    def kept(self) -> int:
        """Clips in the store."""
        return sum(kept for kept, _ in self.counts.values())

    @property
    def report(self) -> Path:
        """Where `write_report` writes."""
        return report_of(self.out)


def report_of(out: Path) -> Path:
    """Where the report of the store `out` is."""
    return out.with_name(out.name + ".report.json")


def summarise_preparation(
    out: Path, table: ClipTable, clips: Iterable[Clip], left_out: dict[str, str], seconds: float
) -> Summary:
    """Count clips and what was left out (id -> `reason: detail`)."""
    clips = sorted(clips, key=lambda clip: clip.id)
    left = [
        _LeftOutClip(source.id, str(source.media), source.label, *_split(left_out[source.id]))
        for source in sorted(table.clips, key=lambda source: source.id)
        if source.id in left_out
    ]
    kept, lost = Counter(clip.label for clip in clips), Counter(clip.label for clip in left)
    folds = Counter(clip.fold for clip in clips)
    rates = sound_rates(clips)
    return Summary(
        out,
        table.name,
        {label: (kept[label], lost[label]) for label in table.labels or ("",)},
        {fold: folds[fold] for fold in sorted({source.fold for source in table.clips})},
        sum(clip.frames for clip in clips),
        left,
        (duplicates := _duplicates(clips)),
        [clip.id for clip in clips if clip.silent and clip.rate],
        {clip.id: clip.note for clip in clips if clip.note},
        [clip.id for clip in clips if clip.silent and not clip.rate],
        rates,
        [*_warnings(table, kept, folds, duplicates), *_mixed(rates)],
        table.notes,
        round(seconds, 1),
        out.stat().st_size if clips else 0,
        {clip.id: clip.landmarked / clip.frames for clip in clips if clip.tensors.get(TENSOR) == ""},
        _named(clips),
    )


def _named(clips: list[Clip]) -> dict[str, dict[str, int]]:
    counted = {"targets": Counter[str](), "tensors": Counter[str](), "splits": Counter[str]()}
    for clip in clips:
        counted["targets"].update(clip.targets.keys())
        counted["tensors"].update(clip.tensors.keys())
        counted["splits"].update(f"{name} {part}" for name, part in clip.splits.items())
    return {kind: dict(sorted(counts.items())) for kind, counts in counted.items() if counts}


def refuse_traces(summary: Summary) -> None:
    """Tell clips that were left out because their traces do not fit them; the store is whole without them.

    Raises:
        DataError: there are some; names the first.
    """
    wrong = [left for left in summary.left if left.reason == "trace"]
    if wrong:
        raise DataError(
            f"{len(wrong)} clips are not in {summary.out}, as their traces do not fit them: {wrong[0].detail}. Mend "
            "the files, or take the clips out of the list, then delete the store and prepare again "
            f"({summary.report} names all of them)"
        )


def _split(text: str) -> tuple[str, str]:
    reason, _, detail = text.partition(": ")
    return reason, detail


def _duplicates(clips: list[Clip]) -> list[list[str]]:
    same = defaultdict[str, list[str]](list)
    for clip in clips:
        same[clip.media_digest].append(clip.id)
    return [ids for digest, ids in same.items() if digest and len(ids) > 1]


def _warnings(table: ClipTable, kept: Counter[str], folds: Counter[int], duplicates: list[list[str]]) -> list[str]:
    of = {source.id: source for source in table.clips}
    empty_labels = [label for label in table.labels if not kept[label]]
    empty_folds = [str(fold) for fold in sorted({source.fold for source in table.clips}) if not folds[fold]]
    across = [ids for ids in duplicates if len({of[name].fold for name in ids}) > 1]
    torn = [ids for ids in duplicates if len({of[name].label for name in ids}) > 1]
    return [
        *table.warnings,
        *(f"label {label} has no clip left; a model cannot learn it" for label in empty_labels),
        *(f"fold {fold} has no clip left; it cannot be tested" for fold in empty_folds),
        *_uneven(folds),
        *(f"the same file is in several folds, so a test set leaks into training: {', '.join(ids)}" for ids in across),
        *(f"the same file has several labels: {', '.join(ids)}" for ids in torn),
    ]


def _mixed(rates: dict[int, int]) -> list[str]:
    """Resampled sound has one rate, so that several are those of the files."""
    if len(rates) < 2:
        return []
    found = ", ".join(f"{count} at {rate} Hz" for rate, count in rates.items())
    return [
        f"sound is taken at the files' own rates, and these differ (clips: {found}); the same tone then lies in other "
        "mel bands from clip to clip, and a model has to learn them all. --set prepare.sound.rate=16000 resamples all"
    ]


def _uneven(folds: Counter[int]) -> list[str]:
    """Folds are dealt before clips are left out, so that all of these may have been in one."""
    mean = sum(folds.values()) / max(len(folds), 1)
    return [
        f"fold {fold} has {count} clips, less than half of the mean ({mean:.0f}); its result says less than the others'"
        for fold, count in sorted(folds.items())
        if count < mean / 2
    ]


def write_report(summary: Summary) -> None:
    """Write the whole summary as `OUT.report.json`."""
    write_json(summary.report, to_dict(summary))


def to_dict(summary: Summary) -> dict[str, Any]:
    """The summary as JSON types."""
    counts = {label: {"kept": kept, "left_out": lost} for label, (kept, lost) in summary.counts.items()}
    reasons = Counter(clip.reason for clip in summary.left)
    return {
        "store": str(summary.out),
        "data_set": summary.data_set,
        "clips": summary.kept,
        "frames": summary.frames,
        "bytes": summary.bytes,
        "bytes_per_clip": round(summary.bytes / max(summary.kept, 1)),
        "labels": counts,
        "folds": summary.folds,
        "left_out_reasons": dict(sorted(reasons.items())),
        "left_out": [asdict(clip) for clip in summary.left],
        "duplicates": summary.duplicates,
        "silent": summary.silent,
        "remarks": summary.remarks,
        "silence_in_place_of_no_sound": summary.silenced,
        "sound_rates": summary.rates,
        "warnings": summary.warnings,
        "notes": list(summary.notes),
        "named": summary.named,
        **_landmarks(summary),
        "seconds": summary.seconds,
    }


def _landmarks(summary: Summary) -> dict[str, Any]:
    if not summary.landmarked:
        return {}
    shares = {name: round(share, 4) for name, share in summary.landmarked.items()}
    return {"landmarks": {"clips": len(shares), "without": summary.without_landmarks, "shares": shares}}


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """Show the summary to a person."""
    console = console or Console()
    done = "already prepared" if summary.already else f"prepared in {summary.seconds:.0f} s"
    console.print(f"[bold]{escape(summary.data_set)}[/]: {summary.kept} clips, {summary.frames} frames, {done}")
    console.print(_size(summary), highlight=False)
    console.print(_grid(summary))
    for kind, counts in summary.named.items():
        told = ", ".join(f"{name} ({count})" for name, count in counts.items())
        console.print(f"{kind}: {escape(told)}", highlight=False, soft_wrap=True)
    for clip in summary.left[:_MAX_SHOWN]:
        console.print(f"left out: [bold]{escape(clip.id)}[/] ({clip.reason}) {escape(clip.detail)}", soft_wrap=True)
    if len(summary.left) > _MAX_SHOWN:
        console.print(f"… and {len(summary.left) - _MAX_SHOWN} more, all in the report")
    for ids in summary.duplicates[:_MAX_SHOWN]:
        console.print(f"the same file: {escape(', '.join(ids))}", soft_wrap=True)
    if summary.silent:
        console.print(f"kept, but all zeros as sound: {escape(', '.join(summary.silent[:_MAX_SHOWN]))}", soft_wrap=True)
    kinds = _kinds(summary.remarks)
    for remark, names in [*kinds.items()][:_MAX_SHOWN]:
        console.print(f"kept, {len(names)} of {summary.kept}: {escape(remark)} ({escape(some(names))})", soft_wrap=True)
    if len(kinds) > _MAX_SHOWN:
        console.print(f"… and {len(kinds) - _MAX_SHOWN} more remarks, all in the report")
    if summary.silenced:
        shown = escape(", ".join(summary.silenced[:_MAX_SHOWN]))
        console.print(f"kept with silence, having no sound: {len(summary.silenced)} clips: {shown}", soft_wrap=True)
    if summary.landmarked:
        console.print(_landmark_words(summary), highlight=False, soft_wrap=True)
    for note in summary.notes:
        console.print(f"note: {escape(note)}", soft_wrap=True)
    for warning in summary.warnings:
        console.print(f"[bold red]WARNING[/]: {escape(warning)}", soft_wrap=True)
    console.print(f"store  {summary.out}\nreport {summary.report}", highlight=False, soft_wrap=True, markup=False)


def _landmark_words(summary: Summary) -> str:
    lost, shares = summary.without_landmarks, summary.landmarked.values()
    named, mean = f" ({escape(some(lost))})" if lost else "", sum(shares) / len(shares)
    return (
        f"clips without reliable landmarks: {len(lost)} of {len(shares)}{named}; on average {mean:.1%} of a clip's "
        "frames have some"
    )


def _kinds(remarks: Mapping[str, str]) -> dict[str, list[str]]:
    """Remark -> clips; those that differ in their numbers alone are one, with the numbers of the first."""
    clips, first = defaultdict[str, list[str]](list), dict[str, str]()
    for name, told in remarks.items():
        for remark in told.split("; "):
            kind = re.sub(r"[0-9]+", "#", remark)
            clips[first.setdefault(kind, remark)].append(name)
    return clips


def _size(summary: Summary) -> str:
    each = summary.bytes / max(summary.kept, 1) / 1000
    rates = ", ".join(f"{rate} Hz ({count})" for rate, count in summary.rates.items())
    return f"{summary.bytes / 1e6:.1f} MB, {each:.0f} kB per clip; sound at {rates or 'no rate'}"


def _grid(summary: Summary) -> Grid:
    grid = Grid("label", *(f"{name:>8}" for name in ("clips", "left out")))
    for label, (kept, lost) in summary.counts.items():
        grid.add_row(
            escape(label or "all"), f"{kept:>8}", f"{lost:>8}", style="red" if not kept else "yellow" if lost else ""
        )
    return grid
