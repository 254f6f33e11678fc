"""Folders and what is in them: names found in either form of a letter, links followed, each real folder once."""

import os
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmadfer.errors import DataError
from mmadfer.utils.files import is_clutter
from mmadfer.utils.names import one_form


class Folders:
    """The names in folders, each folder read once: a question per clip would be slow on a network file system."""

    def __init__(self) -> None:
        self._names: dict[Path, frozenset[str]] = {}
        self._forms: dict[Path, dict[str, str]] = {}
        """Folder -> one form of each name that has several -> the name."""

    def names(self, folder: Path) -> frozenset[str]:
        """All names in a folder, as they are; none where there is no such folder.

        Raises:
            DataError: the folder is there and cannot be read.
        """
        if folder not in self._names:
            self._names[folder] = frozenset(entry.name for entry in scan(folder))
        return self._names[folder]

    def has(self, path: Path) -> bool:
        """Whether there is a file or folder of this name; so it seems in a folder that cannot be read.

        Preparation then says of each of its clips what is wrong.
        """
        try:
            return path.name in self.names(path.parent)
        except DataError:
            return True

    def holds(self, path: Path) -> bool:
        """Whether there certainly is a file or folder of this name."""
        try:
            return path.name in self.names(path.parent)
        except DataError:
            return False

    def named(self, path: Path) -> Path:
        """The path as it is on the disk, where its letters have another form there; else the path itself."""
        if self.has(path) or path.parent == path or str(path).isascii():
            return path
        folder = self.named(path.parent)
        try:
            found = self._other_form(folder, path.name)
        except DataError:
            return path
        return folder / found if found else path

    def _other_form(self, folder: Path, name: str) -> str | None:
        if folder not in self._forms:
            self._forms[folder] = {one_form(other): other for other in sorted(self.names(folder))}
        return self._forms[folder].get(one_form(name))


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, by name; nothing where there is no such folder.

    Raises:
        DataError: the folder is there and cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {os.strerror(error.errno or 0)}; mend its permissions") from error


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """As `scan`, without hidden files and what file managers leave."""
    return [entry for entry in scan(folder) if not is_clutter(entry.name)]


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a link that leads nowhere, or to itself, is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to something that is not there."""
    return entry.is_symlink() and not os.path.exists(entry.path)


class Known:
    """The real folders that a search has met; `passed` says which others it passed over, and why.

    Args:
        root: where the search begins. What holds it is never searched, or a link would lead round in a circle, or
            through the whole disk.
    """

    def __init__(self, root: Path) -> None:
        real = os.path.realpath(root)
        self._above, self._names = {str(folder) for folder in Path(real).parents}, {real: root}
        self.passed: list[str] = []

    def is_new(self, folder: Path) -> bool:
        """Whether it has not been met; it has from then on."""
        real = os.path.realpath(folder)
        if real in self._above:
            self.passed.append(f"{folder} (a link to a folder above)")
        elif real in self._names:
            self.passed.append(f"{folder} (another name of {self._names[real]})")
        else:
            self._names[real] = folder
            return True
        return False

    def inside(self, among: Iterable[os.DirEntry[str]]) -> list[Path]:
        """The new folders among entries, by name; of two names of one, the one that is no link."""
        found = sorted(filter(is_folder, among), key=lambda entry: (entry.is_symlink(), entry.name))
        return sorted(path for path in map(Path, found) if self.is_new(path))


class Tree:
    """A folder and all folders in it, also those that links lead to, each real folder once.

    Attributes:
        files: folder -> what is in it that is no folder; by name.
        closed: folders that cannot be read.
        passed: what was passed over, and why.
    """

    def __init__(self, root: Path) -> None:
        self._known, self.closed = Known(root), list[Path]()
        self.passed, found = self._known.passed, dict[Path, list[str]]()
        waiting = deque([root])
        while waiting:
            folder = waiting.popleft()
            if folder == root or self._known.is_new(folder):
                found[folder] = self._names(folder, waiting)
        self.files = dict(sorted(found.items(), key=lambda item: item[0].parts))

    def _names(self, folder: Path, waiting: deque[Path]) -> list[str]:
        """The files; folders are put in front, and links to some at the end: real names come first."""
        try:
            found = entries(folder)
        except DataError:
            self.closed.append(folder)
            return []
        for entry in filter(is_folder, found):
            (waiting.append if entry.is_symlink() else waiting.appendleft)(Path(entry.path))
        return [entry.name for entry in found if not is_folder(entry)]


def kinds(names: Iterable[str]) -> str:
    """How many files there are of each ending, for a note."""
    counts = Counter(Path(name).suffix.lower() or name for name in names)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def some(names: Sequence[object], count: int = 3) -> str:
    """The first few, for a note."""
    return ", ".join(map(str, names[:count])) + (", …" if len(names) > count else "")
