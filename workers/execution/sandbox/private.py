"""Directories that a task has for itself: made before it starts, removed when it has ended.

They are in one directory per worker, on which the worker holds a lock: what a worker that was
killed leaves is removed by the next one, or by the supervisor that sees its end.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import itertools
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from clinvk.core.user_paths import matching
from workers.execution.disk import remove
from workers.execution.sandbox.plan import PrivateDirectory

PREFIX = "clinvk-tasks-"
LOCK = "lock"


class PrivateDirectories:
    """The private directories of a worker's tasks."""

    def __init__(self) -> None:
        self._base: Path | None = None
        self._numbers = itertools.count(1)
        self._making = threading.Lock()

    @contextlib.contextmanager
    def make(self) -> Iterator[PrivateDirectory]:
        """Make one with an empty home and directory of temporary files; remove it after.

        Raises:
            OSError: there is no space for it.
        """
        private = PrivateDirectory(str(self._directory() / str(next(self._numbers))))
        try:
            for path in private.directories:
                os.mkdir(path, 0o700)  # noqa: PTH102
            yield private
        finally:
            remove(private.path)

    @contextlib.contextmanager
    def written(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """Write each text to a file of its own, which nobody else can read; remove them after.

        Raises:
            OSError: there is no space for it.
        """
        directory = str(self._directory() / str(next(self._numbers)))
        os.mkdir(directory, 0o700)  # noqa: PTH102
        try:
            paths = []
            for number, text in enumerate(texts):
                path = Path(directory, str(number))
                path.write_text(text, encoding="utf-8", errors="replace")
                paths.append(str(path))
            yield paths
        finally:
            remove(directory)

    def _directory(self) -> Path:
        with self._making:
            if self._base is None or not self._base.exists():  # a cleaner of /tmp may be at work
                self._base, _ = _locked_base()  # the lock is held until this process ends
                atexit.register(remove, str(self._base))
            return self._base


@contextlib.contextmanager
def passing_directory() -> Iterator[Path]:
    """Make a directory that is gone after, and that others remove if this process is killed."""
    base, lock_fd = _locked_base()
    try:
        yield base
    finally:
        remove(str(base))
        os.close(lock_fd)


def _locked_base() -> tuple[Path, int]:
    """Make a directory and lock it; returns it, and the descriptor of its lock."""
    remove_stale()
    while True:
        base = Path(tempfile.mkdtemp(prefix=PREFIX))
        with contextlib.suppress(FileNotFoundError):
            lock_fd = os.open(base / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock_fd, fcntl.LOCK_EX)
            if (base / LOCK).exists():  # or somebody took it for stale before it was locked
                return base, lock_fd
            os.close(lock_fd)


def remove_stale() -> None:
    """Remove the directories of workers that are gone."""
    for base in matching(tempfile.gettempdir(), f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or another process is at it
            lock_fd = os.open(base / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(str(base))
            finally:
                os.close(lock_fd)
