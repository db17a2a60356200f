"""What a command writes, in files without a name.

Files, not pipes: CLIs made with node write to a pipe in the background and exit without waiting
for its reader, so that of an answer longer than the pipe's buffer the end is lost (measured:
tests/realcli). To a file they write at once. The file is opened to append, so that a flood can be
cut off while the command goes on writing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import IO

from workers.backends.base import Captured

LEAST_FREE_BYTES = 64 << 20
"""A disk with less room is not written to: output then stays in memory, up to its cap."""
CHUNK_BYTES = 1 << 20


def memory_file(content: bytes = b"") -> IO[bytes]:
    """Give a file that is only in memory, at its beginning."""
    if sys.platform == "linux":
        stream: IO[bytes] = open(os.memfd_create("clinvk"), "w+b", buffering=0)  # noqa: PTH123, SIM115
    else:
        stream = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    rest = memoryview(content)
    while rest:
        rest = rest[stream.write(rest) :]
    stream.seek(0)
    return stream


class Stdout:
    """The beginning of a command's stdout: what is under the cap, and a file with the rest.

    Up to `output_bytes` are returned; where there is more, all of it, up to `spill_bytes`, is
    copied to a file in `spill_dir`.
    """

    def __init__(self, output_bytes: int, spill_bytes: int, spill_dir: Path) -> None:
        self._output_bytes = output_bytes
        self._spill_dir = spill_dir
        self._most_bytes = max(output_bytes, spill_bytes)
        self._dropped_bytes = 0
        stream = _disk_file(spill_dir)
        if stream is None:
            stream, self._most_bytes = memory_file(), output_bytes
        self._stream = _appending(stream)

    def fileno(self) -> int:
        """Return the descriptor that the command writes to."""
        return self._stream.fileno()

    def trim(self) -> None:
        """Cut off what is over the limit; what is written meanwhile goes the same way."""
        size = _size(self._stream)
        if size > self._most_bytes:
            os.ftruncate(self.fileno(), self._most_bytes)
            self._dropped_bytes += size - self._most_bytes

    def captured(self) -> Captured:
        """Return what was written."""
        self.trim()
        size = _size(self._stream)
        return Captured(
            head=_read(self._stream, 0, self._output_bytes),
            size=size + self._dropped_bytes,
            path=self._save() if size > self._output_bytes else None,
        )

    def _save(self) -> Path | None:
        try:
            self._spill_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(
                dir=self._spill_dir, prefix="stdout-", suffix=".log", delete=False
            ) as saved:
                self._stream.seek(0)
                try:
                    shutil.copyfileobj(self._stream, saved, CHUNK_BYTES)
                except OSError:
                    Path(saved.name).unlink()
                    raise
        except OSError:  # no room for it
            return None
        return Path(saved.name)

    def close(self) -> None:
        """Give the file up."""
        self._stream.close()


class Stderr:
    """The end of a command's stderr."""

    def __init__(self, last_bytes: int, folder: Path) -> None:
        self._last_bytes = last_bytes
        self._stream = _appending(_disk_file(folder) or memory_file())
        self._before = b""
        self._dropped_bytes = 0

    def fileno(self) -> int:
        """Return the descriptor that the command writes to."""
        return self._stream.fileno()

    def trim(self) -> None:
        """Take the end of what is there and empty the file, if it is long."""
        size = _size(self._stream)
        if size > self._last_bytes:
            self._before = _read(self._stream, size - self._last_bytes, self._last_bytes)
            os.ftruncate(self.fileno(), 0)
            self._dropped_bytes += size

    def captured(self) -> Captured:
        """Return what was written last."""
        self.trim()
        rest = _read(self._stream, 0, self._last_bytes)
        end = (self._before + rest)[-self._last_bytes :]
        return Captured(head=end, size=self._dropped_bytes + len(rest))

    def close(self) -> None:
        """Give the file up."""
        self._stream.close()


def _disk_file(folder: Path) -> IO[bytes] | None:
    """Open a file without a name in this folder, or where temporary files go."""
    for place in (str(folder), tempfile.gettempdir()):
        with contextlib.suppress(OSError):
            room = os.statvfs(place)
            if room.f_bavail * room.f_frsize >= LEAST_FREE_BYTES:
                return tempfile.TemporaryFile(dir=place, buffering=0)
    return None


def _appending(stream: IO[bytes]) -> IO[bytes]:
    flags = fcntl.fcntl(stream, fcntl.F_GETFL)
    fcntl.fcntl(stream, fcntl.F_SETFL, flags | os.O_APPEND)
    return stream


def _size(stream: IO[bytes]) -> int:
    return os.fstat(stream.fileno()).st_size


def _read(stream: IO[bytes], start: int, length: int) -> bytes:
    pieces = []
    while length > 0 and (piece := os.pread(stream.fileno(), length, start)):
        pieces.append(piece)
        start, length = start + len(piece), length - len(piece)
    return b"".join(pieces)
