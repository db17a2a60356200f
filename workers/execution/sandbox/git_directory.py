"""What of a checkout's git directory a task must not change: programs that git runs later, outside.

A hook, or a setting such as `core.fsmonitor`, is a command that git runs for whoever uses the
checkout next. So hooks and settings are mounted read-only, and over a writable mount of `.git`
itself, which cannot be moved away then. A repository that a task makes itself is like any other
file that it makes.

The paths are in the working directory, which other tasks may be writing to: everything is opened
step by step, without following symbolic links, and mounted by its descriptor.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from workers.execution.sandbox.bubblewrap import Bound

logger = logging.getLogger(__name__)

OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
GUARDED = ("hooks", "config", "config.worktree", "worktrees")
FORBIDDEN = "commondir"
"""Sends git to another directory for hooks and settings. Only linked worktrees have this file."""
MOST_SUBMODULES = 200
POINTER_BYTES = 1 << 12


class WorkdirError(Exception):
    """A working directory that a sandbox cannot have; the message says why."""


@dataclass(frozen=True, slots=True)
class Worktree:
    """A linked worktree's own directory in the main repository's, and that."""

    own: str
    main: str


class Checkout:
    """A working directory that is open, with what is mounted of it.

    `directory_fd` is its descriptor, `empty` an empty directory for what is missing. `mounts` begin
    with the directory itself.

    Raises:
        WorkdirError: something of its git directory cannot be kept from changes.
        OSError: it cannot be opened.
    """

    def __init__(self, directory_fd: int, *, writable: bool, empty: str) -> None:
        self._fds: list[int] = []
        self._workdir = workdir = opened_path(directory_fd)
        self._writable = writable
        self._empty = empty
        self._clean: list[int] = []
        try:
            self.fd = self._keep(os.dup(directory_fd))
            self.mounts = [Bound(self.fd, workdir, writable), *self._git_mounts()]
        except BaseException:
            self.close()
            raise

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors of the mounts."""
        return tuple(mount.fd for mount in self.mounts)

    def _git_mounts(self) -> list[Bound]:
        git_fd = self._open(".git", self.fd)
        if git_fd is None or stat.S_ISLNK(os.fstat(git_fd).st_mode):
            return []
        place = f"{self._workdir}/.git"
        if _is_directory(git_fd):
            return (
                [Bound(git_fd, place, True), *self._guarded(place, git_fd)]
                if self._writable
                else []
            )
        worktree = linked_worktree(self._workdir, _read(git_fd))
        if worktree is None:
            return []
        main_fd = self._keep(os.open(worktree.main, OPEN | os.O_DIRECTORY))
        main = Bound(main_fd, worktree.main, self._writable)
        if not self._writable:
            return [main]
        own_fd = self._keep(os.open(worktree.own, OPEN | os.O_DIRECTORY))
        pointers = [
            Bound(fd, f"{worktree.own}/{name}", False)
            for name in ("commondir", "gitdir", "config.worktree")
            if (fd := self._open(name, own_fd)) is not None
        ]
        guarded = self._guarded(worktree.main, main_fd)
        return [
            main,
            *guarded,
            Bound(own_fd, worktree.own, True),
            *pointers,
            Bound(git_fd, place, False),
        ]

    def _guarded(self, place: str, git_fd: int) -> list[Bound]:
        """Return the read-only mounts over a writable git directory and those of its submodules."""
        mounts = []
        for name in GUARDED:
            fd = self._open(name, git_fd)
            if fd is None and name == "hooks":
                fd = self._keep(os.open(self._empty, OPEN))
            if fd is not None:
                mounts.append(Bound(fd, f"{place}/{name}", False))
        if self._open(FORBIDDEN, git_fd) is None:
            self._clean.append(git_fd)
        modules_fd = self._open("modules", git_fd)
        return mounts + (
            [] if modules_fd is None else self._submodules(f"{place}/modules", modules_fd)
        )

    def _submodules(self, place: str, fd: int) -> list[Bound]:
        mounts: list[Bound] = []
        for name in _names(fd)[:MOST_SUBMODULES]:
            child = self._open(name, fd)
            if child is None or not _is_directory(child):
                continue
            if self._open("HEAD", child) is not None:
                mounts += self._guarded(f"{place}/{name}", child)
            else:  # submodules may have a slash in their names
                mounts += self._submodules(f"{place}/{name}", child)
        return mounts

    def access_problem(self) -> str | None:
        """Return why a task cannot work in the directory, None if it can.

        In a sandbox a root user has no power over other users' files.
        """
        found = os.fstat(self.fd)
        needed = 0o7 if self._writable else 0o5
        if os.geteuid() == found.st_uid:
            granted = found.st_mode >> 6
        elif found.st_gid in {os.getegid(), *os.getgroups()}:
            granted = found.st_mode >> 3
        else:
            granted = found.st_mode
        if granted & needed == needed:
            return None
        return (
            f"workdir {self._workdir} belongs to user {found.st_uid}: in a sandbox, user "
            f"{os.geteuid()} cannot {'write' if self._writable else 'read'} there"
        )

    def clean(self) -> bool:
        """Remove what no checkout has and git would follow; returns whether there was any."""
        found = False
        for git_fd in self._clean:
            with contextlib.suppress(OSError):
                os.unlink(FORBIDDEN, dir_fd=git_fd)
                found = True
        return found

    def close(self) -> None:
        """Remove what git must not follow, and close all descriptors."""
        if self.clean():
            logger.warning("%s: a task wrote %s, it was removed", self._workdir, FORBIDDEN)
        while self._fds:
            os.close(self._fds.pop())

    def _open(self, name: str, directory_fd: int) -> int | None:
        """Open an entry; None if there is none."""
        try:
            fd = self._keep(os.open(name, OPEN, dir_fd=directory_fd))
        except FileNotFoundError:
            return None
        if self._writable and stat.S_ISLNK(os.fstat(fd).st_mode):
            raise WorkdirError(
                f"workdir {self._workdir}: {name} of its git repository is a symbolic link, which "
                "cannot be kept from changes"
            )
        return fd

    def _keep(self, fd: int) -> int:
        self._fds.append(fd)
        return fd


def opened_path(fd: int) -> str:
    """Return where an open directory is, without symbolic links."""
    return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115


def linked_worktree(workdir: str, pointer: str) -> Worktree | None:
    """Return where the `.git` file of a worktree leads to, if the main repository knows it.

    Without that, any file in a working directory could open any directory to a task.
    """
    _, _, named = pointer.partition("gitdir: ")
    own = os.path.normpath(os.path.join(workdir, named.strip()))  # noqa: PTH118
    main = os.path.dirname(os.path.dirname(own))  # noqa: PTH120
    is_worktree = (
        named
        and os.path.realpath(own) == own
        and own == f"{main}/worktrees/{os.path.basename(own)}"  # noqa: PTH119
        and _pointer(f"{own}/gitdir", own) == f"{workdir}/.git"
        and _pointer(f"{own}/commondir", own) == main
        and Path(main, "objects").is_dir()
    )
    return Worktree(own, main) if is_worktree else None


def _pointer(file: str, base: str) -> str | None:
    """Return the path that a file of a git directory names."""
    try:
        with open(file, "rb") as stream:  # noqa: PTH123
            named = os.fsdecode(stream.read(POINTER_BYTES)).strip()
    except OSError:
        return None
    return os.path.normpath(os.path.join(base, named))  # noqa: PTH118


def _is_directory(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def _read(fd: int) -> str:
    """Read a file that was opened by its path alone."""
    with open(f"/proc/self/fd/{fd}", "rb") as stream:  # noqa: PTH123
        return os.fsdecode(stream.read(POINTER_BYTES))


def _names(fd: int) -> list[str]:
    opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    try:
        return sorted(os.listdir(opened))  # noqa: PTH208
    finally:
        os.close(opened)
