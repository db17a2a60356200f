"""A signal from one thread to another that waits for a command: stop it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque

from clinvk.backends.base import StoppedBy


class StopSignal:
    """Asks a running command to stop, from another thread. The first reason given counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_fd, self._write_fd = _wake_pair()
        self.reason: StoppedBy | None = None

    def fileno(self) -> int:
        """Return a descriptor that is readable once the signal is set."""
        return self._read_fd

    def set(self, reason: StoppedBy) -> None:
        """Ask to stop."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
                if self._write_fd >= 0:
                    os.write(self._write_fd, _WAKE)

    def close(self) -> None:
        """Free the descriptors; a later `set` only notes the reason."""
        with self._lock:
            ends = self._read_fd, self._write_fd
            self._read_fd = self._write_fd = -1
            if ends[0] >= 0 and self.reason is None:
                _unused.append(ends)
            elif ends[0] >= 0:
                for fd in set(ends):
                    os.close(fd)

    def __enter__(self) -> StopSignal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_WAKE = (1).to_bytes(8, sys.byteorder)
_unused = deque[tuple[int, int]]()
"""Pairs that nothing was written to; at most as many as there ever were at once."""


def _wake_pair() -> tuple[int, int]:
    """Give something that becomes readable when `_WAKE` is written; returns both ends."""
    with contextlib.suppress(IndexError):
        return _unused.pop()
    if sys.platform == "linux":
        fd = os.eventfd(0)
        ends = fd, fd
    else:
        ends = os.pipe()
    return ends
