"""`mmadfer predict`: videos on the command line, a table, and JSON or CSV on request."""

from collections.abc import Sequence
from pathlib import Path

from rich.progress import track

from mmadfer.errors import DataError
from mmadfer.runtime.recogniser import Failure, Recogniser
from mmadfer.runtime.results import print_predictions, write_csv, write_json


def predict_files(
    videos: Sequence[Path],
    model: Path,
    backend: str | None = None,
    fold: int | None = None,
    json: Path | None = None,
    csv: Path | None = None,
    device: str = "cpu",
) -> int:
    """Predict the videos, print them, and write what is asked for.

    Returns:
        The exit code: 0, or 2 when a video could not be read; the others are predicted all the same.

    Raises:
        WeightsError: the model cannot be used.
        MissingDependencyError: the backend or the device is not there.
    """
    recogniser = Recogniser(model, backend, fold, device)
    found = recogniser.predict(videos)
    results = list(track(found, "Predicting", total=len(videos), transient=True) if len(videos) > 1 else found)
    if json:
        write_json(json, results)
    if csv:
        write_csv(csv, results, recogniser.labels)
    print_predictions(results)
    return DataError.exit_code if any(isinstance(result, Failure) for result in results) else 0
