"""The output of a command, in files that have no name.

Files, not pipes: CLIs made with node write to a pipe in the background and exit without waiting for
its reader, so that an answer longer than the pipe's buffer loses its end (measured by
tests/system/realcli). They write to a file at once. The file is opened for appending, so that it
can be truncated while the command goes on writing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from clinvk.backends.base import Captured
from workers.execution.holes import punch
from workers.execution.spill import Spill

LOOK_BYTES = 1 << 20
"""How much of stdout is read at one look, so that a flood does not take the whole worker."""
BACKLOG_BYTES = 64 << 20
"""How much of stdout may wait to be read beyond its limit; what is more is dropped unread."""
CHUNK_BYTES = 1 << 18
MOST_READS = 5
"""How often the end of a growing stderr is read again, before some of it may be lost."""


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


class Stdout:
    """The beginning of a command's stdout, and where that is not all, a file with all of it.

    Up to `output_bytes` are returned. Where there is more, it is kept in a file of `spill`, up to
    `spill_bytes`. The command writes to a file in `folder`; without one, to memory.

    Attributes:
        fd: the descriptor that the command writes to.
        written_bytes: how much it had ever written when the file was last trimmed.
    """

    def __init__(
        self, output_bytes: int, spill_bytes: int, spill: Spill, folder: str | None
    ) -> None:
        self._output_bytes = output_bytes
        self._spill = spill
        self._dropped_bytes = 0
        self._read_bytes: int | None = None  # None where nobody reads
        self.written_bytes = 0
        self.fd, in_memory = _open_to_append(folder)
        self._most_bytes = output_bytes if in_memory else max(output_bytes, spill_bytes)

    def unread(self) -> Iterator[bytes]:
        """Yield what was written since the last call, in pieces, at most `LOOK_BYTES` of it."""
        return self._next(LOOK_BYTES)

    def rest(self) -> Iterator[bytes]:
        """Yield all that was written since the last call, in pieces."""
        return self._next(os.fstat(self.fd).st_size)

    def _next(self, most_bytes: int) -> Iterator[bytes]:
        start = self._read_bytes or 0
        end = start + most_bytes
        self._read_bytes = start
        while start < end and (piece := os.pread(self.fd, min(CHUNK_BYTES, end - start), start)):
            self._read_bytes = start = start + len(piece)
            yield piece
            if len(piece) < CHUNK_BYTES:
                return

    def trim(self) -> int:
        """Drop what is over the limit, and was read, where somebody reads it.

        Where the disk's reserve is touched, what is over the limit of a result makes room: then
        the tasks beside this one can write on.

        Returns the size that is left, in bytes.
        """
        size = os.fstat(self.fd).st_size
        self.written_bytes = size + self._dropped_bytes
        if size <= self._output_bytes:
            return size
        may_wait = BACKLOG_BYTES
        if self._spill.is_reached(self.fd):
            self._most_bytes, may_wait = self._output_bytes, LOOK_BYTES
        if size > self._most_bytes and not (self._read_bytes and self._drop_read(size, may_wait)):
            self._truncate()
        return min(size, self._most_bytes)

    def _drop_read(self, size: int, may_wait: int) -> bool:
        """Drop what was read, and of what was not, what is too much; returns whether that works."""
        assert self._read_bytes is not None
        if size - self._read_bytes > may_wait:
            self._read_bytes = size
        return punch(self.fd, self._most_bytes, self._read_bytes)

    def _truncate(self) -> None:
        """Truncate the file to the limit; what is written meanwhile is dropped as well."""
        size = os.fstat(self.fd).st_size  # what comes before the next line is not counted
        os.ftruncate(self.fd, self._most_bytes)
        self._dropped_bytes += size - self._most_bytes
        if self._read_bytes is not None:
            self._read_bytes = min(self._read_bytes, self._most_bytes)

    def captured(self) -> Captured:
        """Return what was written; nothing writes any more."""
        size = self.trim()
        if size < os.fstat(self.fd).st_size:
            os.ftruncate(self.fd, size)
        head = _read(self.fd, 0, min(size, self._output_bytes))
        saved = self._spill.save(self.fd, size) if size > self._output_bytes else None
        return Captured(
            head=head,
            size=self.written_bytes,
            path=saved.path if saved else None,
            saved_bytes=saved.size if saved else 0,
        )

    def close(self) -> None:
        """Close the file, which deletes it."""
        os.close(self.fd)


class Stderr:
    """The end of a command's stderr, at most `last_bytes`; for `folder` see `Stdout`.

    Attributes:
        fd: the descriptor that the command writes to.
        written_bytes: how much it had ever written when the file was last trimmed.
    """

    def __init__(self, last_bytes: int, folder: str | None) -> None:
        self._last_bytes = last_bytes
        self._before = b""
        self._dropped_bytes = 0
        self.written_bytes = 0
        self.fd, _ = _open_to_append(folder)

    def trim(self) -> int:
        """Free what is before the end of a long file; returns its size, in bytes."""
        size = os.fstat(self.fd).st_size
        self.written_bytes = size + self._dropped_bytes
        if size <= self._last_bytes or punch(self.fd, 0, size - self._last_bytes):
            return size
        return self._empty(size)

    def _empty(self, size: int) -> int:
        """Keep the end of a file without holes and empty it, of which something can get lost."""
        for _ in range(MOST_READS):
            self._before = _read(self.fd, size - self._last_bytes, self._last_bytes)
            read, size = size, os.fstat(self.fd).st_size
            if size == read:  # or emptying it would lose what came meanwhile: often the very end
                break
        os.ftruncate(self.fd, 0)
        self._dropped_bytes += size
        return 0

    def captured(self) -> Captured:
        """Return the end of what was written."""
        size = self.trim()
        rest = b""
        if self.written_bytes:
            rest = _read(self.fd, max(0, size - self._last_bytes), self._last_bytes)
        end = (self._before + rest)[-self._last_bytes :]
        return Captured(head=end, size=self._dropped_bytes + size)

    def close(self) -> None:
        """Close the file, which deletes it."""
        os.close(self.fd)


def _open_to_append(folder: str | None) -> tuple[int, bool]:
    """Open a file for appending; returns its descriptor, and whether it is only in memory."""
    if folder is not None:
        with contextlib.suppress(OSError):
            return _without_name(folder), False
    fd = memory_file()
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd, True


def _without_name(folder: str) -> int:
    """Open a file without a name, for reading and appending."""
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
