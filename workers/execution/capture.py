"""What a command writes, in files without a name.

Files, not pipes: CLIs made with node write to a pipe in the background and exit without waiting
for its reader, so that of an answer longer than the pipe's buffer the end is lost (measured:
tests/system/realcli). To a file they write at once. The file is opened to append, so that a flood
can be cut off while the command goes on writing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sys
import tempfile
from pathlib import Path

from clinvk.backends.base import Captured

LEAST_FREE_BYTES = 64 << 20
"""A disk with less room is not written to: output then stays in memory, up to its cap."""
CHUNK_BYTES = 1 << 20


def memory_file(content: bytes = b"") -> int:
    """Open a file that is only in memory, at its beginning; returns its descriptor."""
    if sys.platform == "linux":
        fd = os.memfd_create("clinvk")
    else:
        fd = _without_name(tempfile.gettempdir())
    rest, at = memoryview(content), 0
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written
    return fd


def place_for(folder: Path) -> str | None:
    """Return where there is room for what commands write: this folder, or the temporary one."""
    return next(filter(_has_room, (str(folder), tempfile.gettempdir())), None)


def _has_room(place: str) -> bool:
    try:
        room = os.statvfs(place)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize >= LEAST_FREE_BYTES


class Stdout:
    """The beginning of a command's stdout: what is under the cap, and a file with the rest.

    Up to `output_bytes` are returned; where there is more, all of it, up to `spill_bytes`, is
    copied to a file in `spill_dir`. It is written in `place`; without one, in memory.

    Attributes:
        fd: the descriptor that the command writes to.
    """

    def __init__(
        self, output_bytes: int, spill_bytes: int, spill_dir: Path, place: str | None
    ) -> None:
        self._output_bytes = output_bytes
        self._spill_dir = spill_dir
        self._dropped_bytes = 0
        self.fd, in_memory = _to_append(place)
        self._most_bytes = output_bytes if in_memory else max(output_bytes, spill_bytes)

    def trim(self) -> int:
        """Cut off what is over the limit; what is written meanwhile goes the same way.

        Returns the number of bytes that are there.
        """
        size = os.fstat(self.fd).st_size
        if size > self._most_bytes:
            os.ftruncate(self.fd, self._most_bytes)
            self._dropped_bytes += size - self._most_bytes
        return min(size, self._most_bytes)

    def captured(self) -> Captured:
        """Return what was written."""
        size = self.trim()
        return Captured(
            head=_read(self.fd, 0, min(size, self._output_bytes)),
            size=size + self._dropped_bytes,
            path=self._save() if size > self._output_bytes else None,
        )

    def _save(self) -> Path | None:
        try:
            self._spill_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (
                open(self.fd, "rb", buffering=0, closefd=False) as written,
                tempfile.NamedTemporaryFile(
                    dir=self._spill_dir, prefix="stdout-", suffix=".log", delete=False
                ) as saved,
            ):
                written.seek(0)
                try:
                    shutil.copyfileobj(written, saved, CHUNK_BYTES)
                except OSError:
                    Path(saved.name).unlink()
                    raise
        except OSError:  # no room for it
            return None
        return Path(saved.name)

    def close(self) -> None:
        """Give the file up."""
        os.close(self.fd)


class Stderr:
    """The end of a command's stderr, at most `last_bytes`; written in `place`, see `Stdout`.

    Attributes:
        fd: the descriptor that the command writes to.
    """

    def __init__(self, last_bytes: int, place: str | None) -> None:
        self._last_bytes = last_bytes
        self._before = b""
        self._dropped_bytes = 0
        self.fd, _ = _to_append(place)

    def trim(self) -> int:
        """Take the end of what is there and empty the file, if it is long.

        Returns the number of bytes that are there.
        """
        size = os.fstat(self.fd).st_size
        if size <= self._last_bytes:
            return size
        self._before = _read(self.fd, size - self._last_bytes, self._last_bytes)
        os.ftruncate(self.fd, 0)
        self._dropped_bytes += size
        return 0

    def captured(self) -> Captured:
        """Return what was written last."""
        rest = _read(self.fd, 0, self.trim())
        end = (self._before + rest)[-self._last_bytes :]
        return Captured(head=end, size=self._dropped_bytes + len(rest))

    def close(self) -> None:
        """Give the file up."""
        os.close(self.fd)


def _to_append(place: str | None) -> tuple[int, bool]:
    """Open a file to append to; returns its descriptor, and whether it is only in memory."""
    if place is not None:
        with contextlib.suppress(OSError):
            return _without_name(place), False
    fd = memory_file()
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd, True


def _without_name(folder: str) -> int:
    """Open a file without a name, to read and to append."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    if sys.platform == "linux":
        try:
            return os.open(folder, flags | os.O_TMPFILE, 0o600)
        except OSError as error:  # some file systems cannot
            if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT}:
                raise
    named, name = tempfile.mkstemp(dir=folder)
    try:
        return os.open(name, flags)
    finally:
        os.close(named)
        Path(name).unlink()


def _read(fd: int, start: int, length: int) -> bytes:
    pieces = []
    while length > 0 and (piece := os.pread(fd, length, start)):
        pieces.append(piece)
        start, length = start + len(piece), length - len(piece)
    return b"".join(pieces)
