"""The directory of one worktree: made, locked, described, removed."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from clinvk.git.private_repository import PrivateRepository
from workers.execution.disk import remove

LOCK, ABOUT = "lock", "about.json"

State = Literal["used", "waiting", "kept", "recorded"]
"""A task works in it; it waits for the task to go on with its session; it has what no result has;
its result is recorded, so it is to be removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a worktree is for: the task, and its repository, commit and trees (see `Changes`).

    `top` is the directory with its files, `workdir` the task's directory in it, `objects` are the
    directories of objects that its repository has.
    """

    run: str
    index: int
    repository: str
    top: str
    state: State = "used"
    base: str = ""
    start: str = ""
    workdir: str = ""
    size_bytes: int = 0
    objects: list[str] = field(default_factory=list)


class Place:
    """The directory of one worktree, locked while this is open."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd

    @classmethod
    def make(cls, path: Path) -> Place:
        """Make the directory and lock it.

        Raises:
            OSError: it is there already, or cannot be made.
        """
        path.mkdir(mode=0o700)
        lock_fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock_fd, fcntl.LOCK_EX)
        return cls(path, lock_fd)

    @classmethod
    def open(cls, path: Path) -> Place | None:
        """Open one that nobody uses; None where somebody does, or it is none."""
        try:
            lock_fd = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock_fd)
            return None
        return cls(path, lock_fd)

    @property
    def private(self) -> PrivateRepository:
        """Where its files are looked at."""
        return PrivateRepository(str(self.path / "git"))

    @property
    def index(self) -> str:
        """The index of what its files were when they were looked at last."""
        return str(self.path / "index")

    def write(self, about: About) -> None:
        """Describe it.

        Raises:
            OSError: it cannot be written.
        """
        new = self.path / f"{ABOUT}.new"
        new.write_text(json.dumps(asdict(about)), encoding="utf-8")
        new.replace(self.path / ABOUT)

    def read(self) -> About | None:
        """Return what it is; None where nobody has said so."""
        return read_about(self.path)

    def close(self) -> None:
        """Let others have it."""
        os.close(self._lock_fd)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        remove(str(self.path / "work"))
        remove(str(self.path))
        self.close()


def read_about(path: Path) -> About | None:
    """Return what the worktree in a directory is; None where nobody has said so."""
    try:
        return About(**json.loads((path / ABOUT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
