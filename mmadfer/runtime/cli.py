"""`mmadfer predict`: videos on the command line, a table, and JSON or CSV on request."""

from collections.abc import Sequence
from pathlib import Path

from mmadfer.data.progress import Meter
from mmadfer.errors import ConfigError, DataError
from mmadfer.runtime.answer import Failure
from mmadfer.runtime.files import videos
from mmadfer.runtime.recogniser import Recogniser
from mmadfer.runtime.results import WRITERS, print_predictions


def predict_files(
    paths: Sequence[Path],
    model: Path,
    backend: str | None = None,
    fold: int | None = None,
    out: Sequence[Path] = (),
    device: str | None = None,
    jobs: int = 1,
    batch: int | None = None,
    window: float | None = None,
    hop: float | None = None,
    sound: Path | None = None,
    cropped: bool = False,
) -> int:
    """Predict videos, print them, and write what is asked for.

    Args:
        paths: videos, folders of images, and folders of these.
        model, backend, fold, device: as for `Recogniser`.
        out: files to write, .json or .csv.
        jobs, batch, window, hop: as for `Recogniser.predict`.
        sound: a file with the sound of the one clip, or a folder with one for each.
        cropped: the frames show nothing but the face.

    Returns:
        The exit code: 0, or 2 when a video could not be read; the others are predicted all the same.

    Raises:
        WeightsError: the model cannot be used.
        MissingDependencyError: the backend or the device is not there.
        ConfigError, DataError: options that cannot be.
    """
    for path in out:
        if path.suffix.lower() not in WRITERS:
            raise ConfigError(f"--out {path}: the name must end in {' or '.join(WRITERS)}")
    clips = videos(paths, sound, cropped)
    recogniser = Recogniser(model, backend, fold, device)
    found, results = recogniser.predict(clips, jobs=jobs, batch=batch, window=window, hop=hop), []
    with Meter("predicting", len(clips), goes_on=False) as meter:
        for result in found:
            results.append(result)
            meter.step()
    for path in out:
        WRITERS[path.suffix.lower()](path, results, recogniser.labels)
    print_predictions(results)
    return DataError.exit_code if any(isinstance(result, Failure) for result in results) else 0
