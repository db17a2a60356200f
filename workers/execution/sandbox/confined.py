"""A command that runs in a sandbox: how it is signalled, and how all of it is ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from workers.execution.process_tree import signal_group
from workers.execution.sandbox import bubblewrap, landlock

FATAL = frozenset(
    (
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP),
        *(signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV),
        *(signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM, signal.SIGXCPU, signal.SIGXFSZ),
        signal.SIGSYS,
    )
)
"""Signals that end a process by themselves. Some CLIs exit with codes that look like other ones."""
SIGNAL_CODES = 128
"""bubblewrap and shells exit with this and the number of the signal that ended the command."""
END_SECONDS = 10.0
PIPE_BYTES = 1 << 16


class SandboxFailedError(Exception):
    """The sandbox could not be set up, so that the command was not started."""


class Restricted:
    """A command that Landlock restricts: one process of the worker's, like any other.

    Attributes:
        fds: what the command inherits.
    """

    def __init__(self, fds: Sequence[int] = ()) -> None:
        self._status_fd, self._status_write = os.pipe()
        os.set_blocking(self._status_fd, False)
        self._said: dict[str, Any] = {}
        self._buffer = b""
        self.fds: tuple[int, ...] = (self._status_write, *fds)

    @property
    def status_fd(self) -> int:
        """Where the launcher, or bubblewrap, reports."""
        return self._status_write

    def signal(self, group: int, number: int) -> bool:
        """Signal the command; `group` is that of the process that the worker started."""
        return signal_group(group, number)

    def end(self) -> bool | None:
        """End what the command left; None leaves that to the caller."""
        return None

    def returncode(self, code: int) -> int:
        """Return the command's exit code for that of the process, -N for signal N.

        Raises:
            SandboxFailedError: the command was not started.
        """
        if code == landlock.FAILED and (error := self._read_status().get("error")):
            raise SandboxFailedError(error)
        return code

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._status_fd)
        os.close(self._status_write)

    def _read_status(self) -> Mapping[str, Any]:
        """Return all that was reported up to now."""
        self._buffer += _read(self._status_fd)
        while b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            if line.startswith(b"error "):  # the launcher's
                self._said["error"] = os.fsdecode(line[len(b"error ") :])
                continue
            with contextlib.suppress(ValueError):
                self._said.update(json.loads(line))
        return self._said


class Namespace(Restricted):
    """The processes of one command in a PID namespace of its own, which bubblewrap made.

    Two processes of bubblewrap are around the command: one outside, which the worker started, and
    the namespace's first, whose end is the end of every process in it.
    """

    def __init__(self, fds: Sequence[int] = ()) -> None:
        super().__init__(fds)
        self._report_fd, self.report_fd = os.pipe()
        os.set_blocking(self._report_fd, False)
        self.fds = (*self.fds, self.report_fd)

    def signal(self, group: int, number: int) -> bool:
        """Signal the command's own process group; KILL ends the whole namespace.

        Where the namespace is not set up yet nothing of the command runs, and nothing is lost by
        an end at once.
        """
        first = self._first_process()
        if first is None:
            return signal_group(group, signal.SIGKILL)
        if number != signal.SIGKILL and signal_group(first, number):
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(first, signal.SIGKILL)
        return True

    def end(self) -> bool:
        """Wait until the namespace is empty; returns whether the command left processes behind."""
        if (first := self._first_process()) is not None and not _wait_for(first, END_SECONDS):
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
            _wait_for(first, END_SECONDS)
        return bubblewrap.ORPHANS.encode() in _read(self._report_fd)

    def returncode(self, code: int) -> int:
        """Return the command's exit code for bubblewrap's.

        Raises:
            SandboxFailedError: the command was not started.
        """
        code = super().returncode(code)
        said = self._read_status()
        if code > 0 and "exit-code" not in said:
            raise SandboxFailedError("bubblewrap could not set up the sandbox")
        return SIGNAL_CODES - code if code - SIGNAL_CODES in FATAL else code

    def close(self) -> None:
        """Close the descriptors."""
        super().close()
        os.close(self._report_fd)
        os.close(self.report_fd)

    def _first_process(self) -> int | None:
        first = self._read_status().get("child-pid")
        return first if isinstance(first, int) and first > 1 else None


def _read(fd: int) -> bytes:
    """Read what there is in a pipe that does not block."""
    found = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(fd, PIPE_BYTES):
            found += piece
    return found


def _wait_for(pid: int, timeout_seconds: float) -> bool:
    """Wait for the end of a process that may have become our child; returns whether it ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(timeout_seconds * 1000):
            return False
    finally:
        os.close(fd)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return True
