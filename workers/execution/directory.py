"""The directory that a task runs in: opened once, beneath its root, then used by its descriptor.

A path that was checked can lead elsewhere a moment later, when somebody puts a symbolic link in the
place of one of its directories. A descriptor cannot: what was checked is where the command starts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

DIRECTORY_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
"""With O_PATH, no permission is needed that the command itself would not need."""
SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH = 0x02, 0x08
MOST_TRIES = 100
"""How often the kernel may find that something on the way has just been moved."""
_UNAVAILABLE = frozenset({errno.ENOSYS, errno.EPERM})
"""What an older kernel, or a sandbox that does not know openat2, answers."""


class OutsideError(Exception):
    """A directory that was beneath its root when it was looked up leads out of it now."""


class Directory:
    """An open directory. `path` is for messages, and says where it was when it was opened.

    Attributes:
        fd: its descriptor, until `close`.
        is_own: whether this worker made it, and nobody chose it.
    """

    def __init__(self, path: str, fd: int, *, is_own: bool = False) -> None:
        self.path = path
        self.fd = fd
        self.is_own = is_own

    @property
    def start_path(self) -> str:
        """A path by which a child of this process can enter this very directory.

        The child may close the descriptor before it executes anything, and has entered it then.
        """
        if _HAS_PROC:
            return f"/proc/self/fd/{self.fd}"
        found = os.fstat(self.fd)
        by_number = f"/.vol/{found.st_dev}/{found.st_ino}"  # macOS: a directory by its inode
        return by_number if Path(by_number).is_dir() else self.path

    @property
    def real_path(self) -> str:
        """Where it is, without symbolic links."""
        path = Path(self.start_path)
        return str(path.readlink() if _HAS_PROC else path.resolve())

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


_HAS_PROC = Path("/proc/self/fd").is_dir()


def open_directory(path: str | None, root: str | None, *, is_own: bool = False) -> Directory:
    """Open a directory; None is that of this process.

    With a root, `path` is below it; both are absolute, without symbolic links.

    Raises:
        OutsideError: it leads out of its root.
        OSError: it is not there, no directory, or must not be entered.
    """
    shown = os.curdir if path is None else path
    if root is None:
        fd = os.open(shown, DIRECTORY_FLAGS)
    else:
        fd = _open_beneath(root, os.path.relpath(shown, root))
    try:
        os.stat(os.curdir, dir_fd=fd)  # whether it may be entered
    except OSError:
        os.close(fd)
        raise
    return Directory(shown, fd, is_own=is_own)


def _open_beneath(root: str, relative: str) -> int:
    root_fd = os.open(root, DIRECTORY_FLAGS)
    try:
        fd = _openat2(root_fd, relative)
        return _walk(root_fd, relative) if fd is None else fd
    finally:
        os.close(root_fd)


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def _openat2(root_fd: int, relative: str) -> int | None:
    """Let the kernel open it beneath its root (openat2(2)); None where it cannot."""
    if sys.platform != "linux":
        return None
    how = _OpenHow(DIRECTORY_FLAGS, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    for _ in range(MOST_TRIES):
        fd = _call_openat2(root_fd, os.fsencode(relative), how)
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number in _UNAVAILABLE:
            return None
        if number in {errno.EXDEV, errno.ELOOP}:
            raise OutsideError(relative)
        if number not in {errno.EAGAIN, errno.EINTR}:
            raise OSError(number, os.strerror(number), relative)
    raise OutsideError(relative)


def _call_openat2(root_fd: int, relative: bytes, how: _OpenHow) -> int:
    size = ctypes.c_size_t(ctypes.sizeof(how))
    arguments = ctypes.c_long(SYS_OPENAT2), ctypes.c_int(root_fd), relative
    return int(_libc().syscall(*arguments, ctypes.byref(how), size))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _walk(root_fd: int, relative: str) -> int:
    """Open it one part after another, none of which may be a symbolic link any more."""
    fd = os.dup(root_fd)
    for part in Path(relative).parts:
        try:
            inner = os.open(part, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=fd)
        except OSError as error:
            with suppress(OSError):
                if stat.S_ISLNK(os.stat(part, dir_fd=fd, follow_symlinks=False).st_mode):
                    raise OutsideError(relative) from error
            raise
        finally:
            os.close(fd)
        fd = inner
    return fd
