"""The control groups (cgroups) that bound this process, versions 1 and 2 (Linux)."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GROUPS, ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def folders(controller: str, groups: Path = GROUPS, root: Path = ROOT) -> Iterator[tuple[Path, int]]:
    """The folders of the groups that this process is in, and the version (1 or 2) of each.

    A container may see the names of its groups, but their files only at the root; so all on the way there are given.
    They need not be there.

    Args:
        controller: `memory` or `cpu`.
        groups: the list of this process's groups.
        root: where the groups' files are mounted.
    """
    with suppress(OSError):
        for line in groups.read_text(encoding="utf-8").splitlines():
            _, kinds, name = line.split(":", 2)
            if kinds and controller not in kinds.split(","):
                continue
            for top in (root / kinds, root / controller) if kinds else (root, root / "unified"):
                group = top / name.strip("/")
                above = [folder for folder in (group, *group.parents) if folder.is_relative_to(top)]
                yield from ((folder, 1 if kinds else 2) for folder in above)
