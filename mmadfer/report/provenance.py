"""What a run differs in from the published recipe, and what it cost."""

from typing import Any, NamedTuple

from mmadfer.config import schema as configs
from mmadfer.evaluation.compare import differs
from mmadfer.report.summary import RunReport
from mmadfer.run import directory as runs
from mmadfer.run import records

_OTHER = ("prepare.", "data.labels", "model.vision.weights", "model.audio.weights", "stages.")
"""Keys of which other lines tell: the data, the files, and the runs that it begins or learns from."""
RECIPES = ("dfew_160", "mafw_224")
"""As published, for the two data sets; the others are compared with that of their size."""


class Recipe(NamedTuple):
    """The differences to a published recipe: key, value here and there."""

    name: str
    differs: list[tuple[str, Any, Any]]


class Cost(NamedTuple):
    """What training took, over the usable folds."""

    seconds: float | None
    """None where a fold does not tell."""
    ranks: int
    """Most processes that trained a fold together: GPUs, where there were any."""
    rank_seconds: float | None
    devices: list[str]
    joules: float | None
    """Of the GPUs, while folds were trained; None where one fold was not measured."""

    def hours(self) -> str:
        """For a person."""
        if self.seconds is None or self.rank_seconds is None:
            return "not recorded"
        told = f"{self.seconds / 3600:.2f} h, folds one after the other"
        return told if self.ranks == 1 else f"{told}; {self.rank_seconds / 3600:.2f} h of {self.ranks} processes"

    def energy(self) -> str:
        """For a person."""
        if self.joules is None:
            return "not measured"
        return f"{self.joules / 3.6e6:.3f} kWh of the GPUs alone, by their own counters"


def recipe(report: RunReport) -> Recipe:
    """Against the published recipe that is nearest: that of the data set, else that of the pictures' size."""
    mafw = "mafw" in str(report.origin["data_set"] or "").lower() or report.config.model.image_size >= 224
    name = RECIPES[mafw]
    found = differs(report.config, configs.load(name))
    return Recipe(name, [(key, *pair) for key, pair in found.items() if not key.startswith(_OTHER)])


def cost(report: RunReport) -> Cost:
    """Of the usable folds."""
    begun = {fold.fold: _begun(report, fold.fold) for fold in report.usable}
    ranks = {fold: max([1, *(int(event.get("ranks") or 1) for event in events)]) for fold, events in begun.items()}
    devices = sorted({str(event["device"]) for events in begun.values() for event in events if event.get("device")})
    seconds = [fold.seconds for fold in report.usable if fold.seconds is not None]
    told = len(seconds) == len(report.usable)
    whole = [fold.seconds * ranks[fold.fold] for fold in report.usable if fold.seconds is not None]
    joules = [fold.joules for fold in report.usable if fold.joules is not None]
    return Cost(
        sum(seconds) if told else None,
        max(ranks.values(), default=1),
        sum(whole) if told else None,
        devices,
        sum(joules) if len(joules) == len(report.usable) else None,
    )


def _begun(report: RunReport, fold: int) -> list[dict[str, Any]]:
    events = records.read_events(runs.fold_dir(report.run, fold) / "metrics.jsonl")
    return [event for event in events if event["event"] == "begin"]
