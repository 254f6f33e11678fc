"""A fold directory kept for one training, also against a process that comes back from the dead.

The lease is FOLD/.lease-N, a file that says who trains the fold; the highest N holds, and N+1 is taken by creating it
exclusively, so of processes that come together one wins, on any POSIX file system (NFS included) and without locks.
It is given back by renaming it to .lease-N.free. Numbers are never used twice, so nobody takes a new lease for the old
one that he has judged. Its beat is the file's modification time, compared with that of a file made just now in the same
folder: no two clocks are compared.

It is taken over at once from a dead process of this machine and from an earlier start of the same SLURM job, and from
anybody else when its beat is older than STALE. The one before may still be alive (its node was only cut off, or it was
suspended), so whatever it publishes is fenced:

    the owner       1 makes a temporary file or folder   2 checks its lease        3 renames it to its final name
    its successor   4 removes the lease before it        5 removes all temporaries 6 reads what is published

If check 2 succeeds, then 1 came before 4, so 5 finds the temporary. Either 3 came before 5, and the successor goes on
from what was published; or 5 came first, and rename 3 fails, for its source is gone. Sources bear the owner's token or
a random name, so that the successor never makes one of the same name. Folders are renamed away before they are
emptied, so that half a folder cannot be published. What is moved away from a published name moves into such a temporary
folder, and is fenced alike. Lines are appended to a file that was opened before the check, and the successor replaces
that file by a copy: a late line goes to the file that nobody reads any more. Check 2 first writes to the lease (its
beat), so a file server is asked and not a cache.

A process that finds its lease gone raises LostError, on all its ranks: it ends with exit code 2 and leaves the fold
alone; as an earlier start of the SLURM job that has it now with 0 (`left_to_later_start`). What is not fenced is
TensorBoard's own file of each process: late points in it are hidden by the successor's.
"""

import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mmadfer.run.lock import QUIET_SECONDS, BusyError
from mmadfer.run.owner import UNKNOWN, Owner, parse_owner, this_process
from mmadfer.utils.files import atomic, no_link
from mmadfer.utils.logs import logger

LOGGER = logger(__name__)

BEAT = 10.0
"""Seconds between beats."""
STALE = 90.0
"""Seconds without a beat after which an owner that nobody can ask counts as dead."""
LEASE_WAIT_SECONDS = STALE + BEAT
"""Seconds to wait for an owner: what is dead shows by then."""
PAUSE = 0.5
"""Seconds between two looks."""
_MAX_LEASE_BYTES = 1 << 16
"""Bytes of a lease."""
_LEASE_FILE = re.compile(r"\.lease-(\d+)(\.free)?")


class LostError(BusyError):
    """Another process has taken the fold over: this one must leave it alone."""


@contextmanager
def left_to_later_start(folder: Path) -> Iterator[None]:
    """End the block where it has lost the fold to a later start of the same SLURM job, which is no failure.

    One would make the srun that is left of this start end the job's step by its number, which the later start's step
    has, too: SLURM then ends that one.
    """
    try:
        yield
    except LostError as error:
        found = _newest(folder)
        if found is None or found.owner is None or not this_process().before(found.owner):
            raise
        LOGGER.warning(f"{type(error).__name__}: {error}")


class Held:
    """A fold directory while it is this process's own; of ranks, rank 0 alone has a `path`."""

    def __init__(self, path: Path | None = None, text: str = "", token: str = "") -> None:
        self.token = token
        """Names temporaries: no other start ever has it."""
        self.lost = False
        """Whether a check has found the lease gone."""
        self._path, self._text = path, text

    def check(self) -> None:
        """Beat, and make sure of the lease.

        Raises:
            LostError: another process has taken the fold over.
            OSError: the directory cannot be reached.
        """
        if self._path is None:
            return
        self.lost = self.lost or not self._ours(self._path)
        if self.lost:
            found = _newest(self._path.parent)
            who = "it has ended" if found is None or found.free else found.owner or UNKNOWN
            folder = self._path.parent
            raise LostError(f"{folder} was taken over by another start of this training ({who}); this one has ended")

    def keeps(self) -> bool:
        """Whether the fold is still this process's own."""
        with suppress(LostError):
            self.check()
        return not self.lost

    def write_text(self, path: Path, text: str) -> None:
        """Write a file of the fold atomically, and only as its owner; raises as `check`."""
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
            self.check()

    def _ours(self, path: Path) -> bool:
        try:
            os.utime(path)
            return path.read_text(encoding="utf-8") == self._text and not _path(path.parent, _number(path) + 1).exists()
        except FileNotFoundError:  # a stale NFS handle is looked up anew, and ends here too
            return False

    def give_back(self) -> None:
        """Free the fold for the next, unless it has been taken."""
        if self._path is not None:
            with suppress(OSError):
                os.rename(self._path, f"{self._path}.free")


@contextmanager
def lease(folder: Path, wait: float = LEASE_WAIT_SECONDS, stop: Callable[[], bool] | None = None) -> Iterator[Held]:
    """Keep a fold directory for this process; a thread beats until the block ends.

    Args:
        folder: the directory; it is made where it is missing.
        wait: seconds to wait for a living owner to leave.
        stop: asked while waiting; ends it early.

    Raises:
        BusyError: another process holds it.
        LostError: a later start of the same SLURM job holds it.
        OSError: the directory cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    held = _wait(folder, this_process(), wait, stop or (lambda: False))
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(held, ended), name="lease", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        ended.set()
        thread.join()
        held.give_back()


def holder(folder: Path) -> Owner | None:
    """Who is training in a fold directory now, UNKNOWN where its lease cannot be read; None where nobody is, or its
    beat is old."""
    found = _newest(Path(folder))
    if found is None or found.free:
        return None
    owner = found.owner or UNKNOWN
    return None if owner.dead() or _age(found.path) > STALE else owner


def is_trace(name: str) -> bool:
    """Whether a file of a fold directory comes from leases, and says nothing of a training."""
    return _LEASE_FILE.fullmatch(name) is not None or name.startswith(".lease.")


@dataclass(frozen=True)
class _Found:
    number: int
    path: Path
    free: bool
    owner: Owner | None
    """None while it is being written."""


def _wait(folder: Path, me: Owner, wait: float, stop: Callable[[], bool]) -> Held:
    begun, told = time.monotonic(), False
    while True:
        found = _newest(folder)
        if found is None or _may_take(found, me):
            held = _take(folder, me, found.number + 1 if found else 1)
            if held is not None:
                return held
            continue
        waited = time.monotonic() - begun
        who = found.owner or UNKNOWN
        if waited >= wait or stop():
            raise BusyError(f"{folder} is being trained by another process: wait for it, or end it first ({who})")
        if waited >= QUIET_SECONDS and not told:
            told = True
            LOGGER.warning(f"{folder} is being trained by another process: waiting up to {wait:.0f} s ({who})")
        time.sleep(min(PAUSE, max(wait - waited, 0.01)))


def _may_take(found: _Found, me: Owner) -> bool:
    if found.free or (found.owner is not None and (found.owner.before(me) or found.owner.dead())):
        return True
    if _age(found.path) > STALE:
        return True
    if found.owner is not None and me.before(found.owner):
        raise LostError(f"{found.path.parent} is being trained by a later start of this job: {found.owner}")
    return False


def _take(folder: Path, me: Owner, number: int) -> Held | None:
    """The lease of this number; None where another process was faster."""
    path, text = _path(folder, number), json.dumps(asdict(me))
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return None
    if any(found >= number and other != path for found, other in _all(folder)):
        path.unlink(missing_ok=True)  # it was taken and given back since it was judged
        return None
    for found, other in _all(folder):
        if found < number:
            other.unlink(missing_ok=True)
    held = Held(path, text, me.token)
    return held if held.keeps() else None


def _beat(held: Held, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with suppress(OSError):  # the file server is away: the next beat may come through
            if not held.keeps():
                return


def _newest(folder: Path) -> _Found | None:
    number, path = max(_all(folder), default=(0, None))
    if path is None:
        return None
    try:
        with open(path, "rb", opener=no_link) as file:
            owner = parse_owner(file.read(_MAX_LEASE_BYTES))
    except FileNotFoundError:  # given back, or taken over, while it was being looked at
        return _newest(folder)
    return _Found(number, path, path.suffix == ".free", owner)


def _all(folder: Path) -> list[tuple[int, Path]]:
    found = ((_LEASE_FILE.fullmatch(name), name) for name in os.listdir(folder))
    return [(int(match[1]), folder / name) for match, name in found if match]


def _path(folder: Path, number: int) -> Path:
    return folder / f".lease-{number}"


def _number(path: Path) -> int:
    return int(path.name.removeprefix(".lease-"))


def _age(path: Path) -> float:
    """Seconds since the beat, by the clock of the file system alone; 0 where the lease has just gone."""
    now = _now(path.parent)
    try:
        with open(path, "rb", opener=no_link) as file:  # opening asks the file server
            return now - os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return 0.0


def _now(folder: Path) -> float:
    try:
        handle, name = tempfile.mkstemp(prefix=".lease.", suffix=".tmp", dir=folder)
    except PermissionError:  # somebody else's run, to be looked at only
        return time.time()
    try:
        return os.fstat(handle).st_mtime
    finally:
        os.close(handle)
        Path(name).unlink(missing_ok=True)
