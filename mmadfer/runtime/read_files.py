"""What a command reads, so that it writes over nothing of it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mmadfer.errors import ConfigError
from mmadfer.runtime.backends.engines import sidecar_path
from mmadfer.runtime.inputs import Video


class ReadFiles:
    """The files that a command reads.

    Args:
        videos: all that are to be predicted, with their sound.
        model: the model.
        others: further files; None where one is not given.
    """

    def __init__(self, videos: Sequence[Video], model: Path, others: Iterable[Path | None] = ()) -> None:
        sounds = [video.sound for video in videos]
        given = [*(video.path for video in videos), *sounds, model, sidecar_path(model), *others]
        self._files = {path.resolve() for path in given if path is not None}
        self._frames = {video.path.resolve() for video in videos if video.path.is_dir()}

    def check(self, option: str, files: Iterable[Path]) -> None:
        """Ask before hours of work whether these may be written.

        Raises:
            ConfigError: one of them is read.
        """
        if odd := next((file for file in files if file.resolve() in self._files), None):
            raise ConfigError(f"{option} would write over {odd}, which is read: give another name")

    def check_drawings(self, option: str, files: Sequence[Path]) -> None:
        """As `check`, of pictures and videos, which must not lie among the frames of one that is predicted either."""
        self.check(option, files)
        if odd := next((file for file in files if file.resolve().parent in self._frames), None):
            raise ConfigError(
                f"{option} would write {odd} among the frames that are predicted, and it would be taken for one: give "
                "another place"
            )
