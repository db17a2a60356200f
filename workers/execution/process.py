"""Run one command to its end, and leave nothing of it behind.

The command gets a session and process group of its own, a marker in its environment, and its
stdin from a file in memory, so that it can never wait for input; its output goes to files, too
(workers/execution/capture.py says why). It ends by itself, by its deadline, or by a `StopSignal`:
TERM to the group, a few seconds, KILL, and then whatever escaped from the group. That *we* stopped
it is recorded here; exit codes do not tell (some CLIs exit 0 on SIGTERM).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from clinvk.backends.base import Command, ProcessResult, StoppedBy
from workers.execution import process_tree
from workers.execution.capture import Stderr, Stdout, memory_file, place_for

TERM_GRACE_SECONDS = 5.0
"""Between TERM and KILL."""
HURRIED_GRACE_SECONDS = 2.0
"""The same, where somebody else may soon start the task."""
LEFTOVER_GRACE_SECONDS = 2.0
"""The same, for what a command left running when it ended by itself."""
TRIM_SECONDS = 0.5
"""How often the output is looked at: a flood may grow over its limit for so long."""
CLEAR_LOOKS = 2
"""How many looks for orphans must find nothing: while one goes through the process table, a
daemon may start the process that replaces it, and end."""
STDERR_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLimits:
    """How much of a command's stdout is kept.

    Up to `output_bytes` in the result; where there is more, all of it in a file in `spill_dir`,
    up to `spill_bytes`; what comes after is dropped.
    """

    output_bytes: int = 10 << 20
    spill_bytes: int = 1 << 30
    spill_dir: Path


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


def run(
    command: Command,
    *,
    tags: Mapping[str, str],
    stop: StopSignal,
    limits: OutputLimits,
    cwd: str | None = None,
    timeout_seconds: float | None = None,
    term_grace_seconds: float = TERM_GRACE_SECONDS,
) -> ProcessResult:
    """Run `command` and return what the operating system said of it.

    `tags` are put into its environment, by which what escaped is found: of
    `process_tree.TASK_TAG` there is one for each run.

    Raises:
        OSError: it could not be started (no such program, an argument too long, …).
    """
    started = time.monotonic()
    place = place_for(limits.spill_dir)
    with (
        closing(Stdout(limits.output_bytes, limits.spill_bytes, limits.spill_dir, place)) as stdout,
        closing(Stderr(STDERR_BYTES, place)) as stderr,
    ):
        process = _start(command, stdout.fd, stderr.fd, cwd, tags)
        supervisor = _Supervisor(process, (stdout, stderr), stop, term_grace_seconds)
        deadline = None if timeout_seconds is None else started + timeout_seconds
        stopped_by = supervisor.wait(deadline)
        duration_seconds = time.monotonic() - started
        orphans = _end_leftovers(process.pid, tags[process_tree.TASK_TAG])
        return ProcessResult(
            returncode=process.returncode,
            stdout=stdout.captured(),
            stderr=stderr.captured(),
            duration_seconds=duration_seconds,
            stopped_by=stopped_by,
            orphans=orphans and stopped_by is None,
        )


def _start(
    command: Command, stdout: int, stderr: int, cwd: str | None, tags: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    stdin = memory_file(command.stdin)
    try:
        return subprocess.Popen(
            command.argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=_environment(command.env, tags),
            start_new_session=True,
        )
    finally:
        os.close(stdin)


def _environment(extra: Mapping[str, str], tags: Mapping[str, str]) -> dict[bytes, bytes]:
    added = {os.fsencode(k): os.fsencode(v) for k, v in {**extra, **tags}.items()}
    return {**_inherited(), **added}


@cache
def _inherited() -> Mapping[bytes, bytes]:
    """Return what commands get of this process's environment, which does not change.

    The worker's own settings (broker password included) are none of their business.
    """
    # In bytes: to decode and encode each variable for each command would take a fifth of the time.
    return {k: v for k, v in os.environb.items() if not k.startswith(b"CLINVK_")}


class _Supervisor:
    """Waits for a process's end, its deadline or its stop signal; keeps its output in bounds."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        outputs: Sequence[Stdout | Stderr],
        stop: StopSignal,
        grace_seconds: float,
    ) -> None:
        self._process = process
        self._outputs = outputs
        self._stop = stop
        self._grace_seconds = grace_seconds

    def wait(self, deadline: float | None) -> StoppedBy | None:
        stopped_by: StoppedBy | None = None
        kill_at: float | None = None
        poll, stop_fd = select.poll(), self._stop.fileno()
        poll.register(stop_fd, select.POLLIN)
        with _exit_descriptor(self._process) as exit_fd:
            poll.register(exit_fd, select.POLLIN)
            while True:
                ready = [fd for fd, _ in poll.poll(_milliseconds_until(deadline, kill_at))]
                if exit_fd in ready:
                    self._process.wait()
                    return stopped_by
                for output in self._outputs:
                    output.trim()
                now = time.monotonic()
                if stop_fd in ready:
                    poll.unregister(stop_fd)
                    stopped_by = stopped_by or self._stop.reason
                elif deadline is not None and now >= deadline:
                    deadline = None
                    stopped_by = stopped_by or "timeout"
                if stopped_by is not None and kill_at is None:
                    signal_group(self._process.pid, signal.SIGTERM)
                    kill_at, deadline = now + self._grace(stopped_by), None
                elif kill_at is not None and now >= kill_at:
                    signal_group(self._process.pid, signal.SIGKILL)
                    kill_at = now + self._grace_seconds

    def _grace(self, stopped_by: StoppedBy) -> float:
        hurried = stopped_by in {"disconnected", "requeued"}
        return min(self._grace_seconds, HURRIED_GRACE_SECONDS) if hurried else self._grace_seconds


def _milliseconds_until(*moments: float | None) -> float:
    """Time until the first of these moments, or until the output is to be looked at."""
    known = [moment - time.monotonic() for moment in moments if moment is not None]
    return 1000 * max(0.0, min([*known, TRIM_SECONDS]))


@contextlib.contextmanager
def _exit_descriptor(process: subprocess.Popen[bytes]) -> Iterator[int]:
    """Give a descriptor that becomes readable when the process has ended."""
    try:
        fd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, or a sandbox without the call
        fd, waiter = _exit_pipe(process.wait)
        try:
            yield fd
        finally:
            waiter.join()
            os.close(fd)
    else:
        try:
            yield fd
        finally:
            os.close(fd)


def _exit_pipe(wait: Callable[[], int]) -> tuple[int, threading.Thread]:
    read_fd, write_fd = os.pipe()

    def wait_and_close() -> None:
        wait()
        os.close(write_fd)

    waiter = threading.Thread(target=wait_and_close, daemon=True)
    waiter.start()
    return read_fd, waiter


def signal_group(group: int, number: int) -> bool:
    """Signal a process group; False if it has no process left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS: only zombies are left in the group
        return False
    return True


def _end_leftovers(group: int, marker: str) -> bool:
    """End what the command left behind, in its group or elsewhere; whether there was any."""
    in_group = found = signal_group(group, signal.SIGTERM)
    clear = 0
    while clear < CLEAR_LOOKS and (in_group or process_tree.orphans_alive()):
        escaped = process_tree.tagged(process_tree.TASK_TAG, marker)
        process_tree.end(escaped, LEFTOVER_GRACE_SECONDS)
        found = found or bool(escaped)
        clear = 0 if escaped else clear + 1
    if found:
        _end_group(group)
        process_tree.orphans_alive()
    return found


def _end_group(group: int) -> None:
    """KILL what is left of a group, and wait until it is gone."""
    give_up_at = time.monotonic() + LEFTOVER_GRACE_SECONDS
    while signal_group(group, signal.SIGKILL) and time.monotonic() < give_up_at:
        process_tree.orphans_alive()  # a zombie counts until it is reaped
        time.sleep(0.005)
