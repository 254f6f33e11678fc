"""`python no_linux.py WORDS`: runs `mmadfer WORDS` as on a system without what only Linux, or only Unix, has.

The standard library and the other packages are imported before: on such a system they have branches of their own.
"""

import asyncio
import concurrent.futures.process
import contextlib
import importlib
import importlib.abc
import multiprocessing.connection
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from typing import Any

MODULES = ("fcntl", "grp", "posix", "pwd", "resource", "syslog", "termios")
GONE: dict[Any, tuple[str, ...]] = {
    os: (
        *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "WIFSIGNALED", "WTERMSIG", "chown", "fchmod", "fork"),
        *("forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getuid", "killpg", "mkfifo", "nice"),
        *("pread", "sched_getaffinity", "sched_setaffinity", "setsid", "sync", "sysconf", "uname", "wait"),
    ),
    signal: ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "pthread_sigmask", "setitimer"),
    select: ("epoll", "poll"),
    socket: ("AF_UNIX", "recv_fds", "send_fds"),
}
FOLDERS = ("/dev/shm/", "/proc/", "/sys/")
OTHERS = (
    "PIL.Image",
    "av",
    "jinja2",
    "numpy",
    "onnxruntime",
    "pydantic",
    "rich.progress",
    "rich.table",
    "typer",
    "yaml",
)
STANDARD = (asyncio, concurrent.futures.process, multiprocessing.connection, shutil, subprocess, tempfile)


class Refusing(importlib.abc.MetaPathFinder):
    """Knows the modules that are not there."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def without_files(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(FOLDERS):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


def folders_cannot_be_opened(path: Any, flags: int, *others: Any, **named: Any) -> int:
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", os.fspath(path))
    return OPEN(path, flags, *others, **named)


OPEN = os.open


def leave() -> None:
    for name in OTHERS:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Refusing())
    for module, names in GONE.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    os.open = folders_cannot_be_opened
    sys.addaudithook(without_files)


if __name__ == "__main__":
    leave()
    from mmadfer.cli.main import main

    sys.argv[0] = "mmadfer"
    main()
