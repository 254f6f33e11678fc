"""What the command line names: videos, folders of images, and folders of these."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmadfer.errors import DataError
from mmadfer.runtime.inputs import Video
from mmadfer.utils.folders import Folders, Tree, kinds, some
from mmadfer.utils.names import IMAGE_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES, is_film, is_image, one_form


def videos(
    paths: Sequence[Path], sound: Path | None = None, cropped: bool = False, fps: float | None = None
) -> list[Video]:
    """The clips that some files and folders stand for.

    A folder is searched with all folders in it, also those that links lead to, each once, by name; hidden files are
    passed over. Where it holds videos, these are the clips; else each folder with images is one. A warning tells what
    else was passed over.

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
    if sound is None:
        return [Video(clip, None, cropped, fps=fps) for clip in found]
    if sound.is_dir():
        named = {_plain(name): name for name in sorted(Folders().names(sound), reverse=True)}
        return [Video(clip, _sound_of(clip, sound, named), cropped, fps=fps) for clip in found]
    if len(found) != 1:
        raise DataError(
            f"--sound {sound} is one file, but there are {len(found)} clips: give a folder with one file of sound "
            "for each, named as they are"
        )
    return [Video(found[0], sound, cropped, fps=fps)]


def _below(folder: Path) -> list[Path]:
    """The clips of a folder; itself where there are none, and folders in it that are closed, which cannot be read."""
    tree = Tree(folder)
    films = [place / name for place, names in tree.files.items() for name in names if is_film(name)]
    pictures = [place for place, names in tree.files.items() if any(map(is_image, names))]
    for told in _passed(tree, folder, films, pictures):
        warnings.warn(told, stacklevel=3)
    return [*(films or pictures), *tree.closed] or [folder]


def _passed(tree: Tree, folder: Path, films: list[Path], pictures: list[Path]) -> Iterator[str]:
    """What a folder has that is no clip of it."""
    loose = [place / name for place, names in tree.files.items() for name in names if films or place not in pictures]
    others = [path for path in loose if path.suffix.lower() not in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES, *SOUND_SUFFIXES)]
    broken = [path for path in others if path.is_symlink() and not os.path.exists(path)]
    if found := [*tree.passed, *(f"{path} (a link that leads nowhere)" for path in broken)]:
        yield f"passed over under {folder}: {some(found, 10)}"
    if films and pictures:
        yield f"{folder} holds videos, so {len(pictures)} folders with images are passed over: {some(pictures)}"
    if kept := [path.name for path in others if path not in broken]:
        yield f"passed over under {folder}, being neither videos nor images by their names: {kinds(kept)}"


def _sound_of(clip: Path, folder: Path, named: Mapping[str, str]) -> Path:
    """The clip's file in a folder of sounds, whose names are `named`; without one, the name that it should have."""
    stem = one_form(clip.name if clip.is_dir() else clip.stem)
    there = (folder / named[name] for ending in SOUND_SUFFIXES if (name := f"{stem}{ending}") in named)
    return next((file for file in there if file.is_file()), folder / f"{stem}{SOUND_SUFFIXES[0]}")


def _plain(name: str) -> str:
    """A name in one form of its letters, with its ending in small ones."""
    stem, ending = os.path.splitext(one_form(name))
    return stem + ending.lower()
