"""What the command line names: videos, folders of images, and folders of these."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mmadfer.errors import DataError
from mmadfer.files import is_clutter
from mmadfer.runtime.inputs import Video

VIDEOS = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".flv", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".3gp", ".ogv")
"""Endings by which a folder's videos are known; a file that is named itself may have any."""
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
SOUNDS = (".wav", ".flac", ".m4a", ".aac", ".mp3", ".ogg", ".opus", ".mp4")


def videos(
    paths: Sequence[Path], sound: Path | None = None, cropped: bool = False, fps: float | None = None
) -> list[Video]:
    """The clips that some files and folders stand for.

    A folder is searched with all folders in it, by name; hidden files are passed over. Where it holds videos, these are
    the clips; else each folder with images is one.

    Args:
        paths: files, or folders.
        sound: the sound of the one clip; or a folder with a file of the same name for each clip.
        cropped: for all.
        fps: images per second of all folders of images.

    Raises:
        DataError: `sound` does not exist, or is one file for several clips; `fps`, and there is no folder of images.
    """
    if sound is not None and not sound.exists():
        raise DataError(f"--sound {sound} does not exist: give a file with sound, or a folder of such files")
    found = [clip for path in paths for clip in (_below(path) if path.is_dir() else [path])]
    if fps is not None and not any(clip.is_dir() for clip in found):
        raise DataError(f"--fps {fps:g} is for folders of images, and there is none: videos say their rate themselves")
    if sound is None or sound.is_dir():
        return [Video(clip, sound and _sound_of(clip, sound), cropped, fps=fps) for clip in found]
    if len(found) != 1:
        raise DataError(
            f"--sound {sound} is one file, but there are {len(found)} clips: give a folder with one file of sound "
            "for each, named as they are"
        )
    return [Video(found[0], sound, cropped, fps=fps)]


def _below(folder: Path) -> list[Path]:
    """The clips of a folder; itself where there are none, and folders in it that are closed, which cannot be read."""
    films, pictures, closed = list[Path](), list[Path](), list[Path]()
    for place, names in _walk(folder, lambda error: closed.append(Path(error.filename))):
        films += [place / name for name in names if _is(name, VIDEOS)]
        if any(_is(name, IMAGES) for name in names):
            pictures.append(place)
    return [*(films or pictures), *closed] or [folder]


def _walk(folder: Path, onerror: Callable[[OSError], None]) -> Iterator[tuple[Path, list[str]]]:
    for place, folders, names in os.walk(folder, onerror=onerror):
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        yield Path(place), sorted(name for name in names if not is_clutter(name))


def _is(name: str, endings: Sequence[str]) -> bool:
    return name.lower().endswith(tuple(endings))


def _sound_of(clip: Path, folder: Path) -> Path:
    """The clip's file in a folder of sounds; where there is none, the name that it should have."""
    stem = clip.name if clip.is_dir() else clip.stem
    there = (folder / f"{stem}{ending}" for ending in SOUNDS)
    return next((file for file in there if file.is_file()), folder / f"{stem}{SOUNDS[0]}")
