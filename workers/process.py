"""Run one command to its end, and leave nothing of it behind.

The command gets a session and process group of its own, a marker in its environment, and its
stdin from a file in memory, so that it can never wait for input; its output goes to files, too
(workers/output.py says why). It ends by itself, by its deadline, or by a `StopSignal`: TERM to
the group, a few seconds, KILL, and then whatever escaped from the group. That *we* stopped it is
recorded here; exit codes do not tell (some CLIs exit 0 on SIGTERM).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from workers import process_tree
from workers.backends.base import Command, Finished, StoppedBy
from workers.output import Stderr, Stdout, memory_file

TERM_GRACE_SECONDS = 5.0
"""Between TERM and KILL."""
HURRIED_GRACE_SECONDS = 2.0
"""The same, where somebody else may soon start the task."""
LEFTOVER_GRACE_SECONDS = 2.0
"""The same, for what a command left running when it ended by itself."""
TRIM_SECONDS = 0.5
"""How often the output is looked at: a flood may grow over its limit for so long."""
CLEAR_LOOKS = 2
"""How many looks for leftovers must find nothing: while one goes through the process table, a
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
        self._read_fd, self._write_fd = os.pipe()
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
                    os.write(self._write_fd, b"!")

    def close(self) -> None:
        """Free the descriptors; a later `set` only notes the reason."""
        with self._lock:
            if self._write_fd >= 0:
                os.close(self._read_fd)
                os.close(self._write_fd)
                self._write_fd = -1

    def __enter__(self) -> StopSignal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run(
    command: Command,
    *,
    marks: Mapping[str, str],
    stop: StopSignal,
    limits: OutputLimits,
    cwd: str | None = None,
    timeout_seconds: float | None = None,
    term_grace_seconds: float = TERM_GRACE_SECONDS,
) -> Finished:
    """Run `command` and return what the operating system said of it.

    `marks` are put into its environment, by which what escaped is found: of
    `process_tree.MARKER` there is one for each run.

    Raises:
        OSError: it could not be started (no such program, an argument too long, …).
    """
    started = time.monotonic()
    with (
        memory_file(command.stdin) as stdin,
        closing(Stdout(limits.output_bytes, limits.spill_bytes, limits.spill_dir)) as stdout,
        closing(Stderr(STDERR_BYTES, limits.spill_dir)) as stderr,
    ):
        process = subprocess.Popen(
            command.argv,
            stdin=stdin,
            stdout=stdout.fileno(),
            stderr=stderr.fileno(),
            cwd=cwd,
            env=_environment(command.env, marks),
            start_new_session=True,
        )
        supervisor = _Supervisor(process, (stdout, stderr), stop, term_grace_seconds)
        deadline = None if timeout_seconds is None else started + timeout_seconds
        stopped_by = supervisor.wait(deadline)
        duration_seconds = time.monotonic() - started
        leftovers = _end_leftovers(process.pid, marks[process_tree.MARKER])
        return Finished(
            returncode=process.returncode,
            stdout=stdout.captured(),
            stderr=stderr.captured(),
            duration_seconds=duration_seconds,
            stopped_by=stopped_by,
            leftovers=leftovers and stopped_by is None,
        )


def _environment(extra: Mapping[str, str], marks: Mapping[str, str]) -> dict[bytes, bytes]:
    # The worker's own settings (broker password included) are none of the command's business.
    # In bytes: that a variable is decoded and encoded again would be a fifth of the time here.
    inherited = {k: v for k, v in os.environb.items() if not k.startswith(b"CLINVK_")}
    added = {os.fsencode(k): os.fsencode(v) for k, v in {**extra, **marks}.items()}
    return {**inherited, **added}


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
        with selectors.PollSelector() as selector, _exit_descriptor(self._process) as exit_fd:
            selector.register(exit_fd, selectors.EVENT_READ)
            selector.register(self._stop.fileno(), selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(_until(deadline, kill_at))}
                if exit_fd in ready:
                    self._process.wait()
                    return stopped_by
                for output in self._outputs:
                    output.trim()
                now = time.monotonic()
                if self._stop.fileno() in ready:
                    selector.unregister(self._stop.fileno())
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
        hurried = stopped_by in {"cut_off", "handed_back"}
        return min(self._grace_seconds, HURRIED_GRACE_SECONDS) if hurried else self._grace_seconds


def _until(*moments: float | None) -> float:
    """Seconds until the first of these moments, or until the output is to be looked at."""
    known = [moment - time.monotonic() for moment in moments if moment is not None]
    return max(0.0, min([*known, TRIM_SECONDS]))


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
    while clear < CLEAR_LOOKS and (in_group or process_tree.adopted_alive()):
        escaped = process_tree.marked(process_tree.MARKER, marker)
        process_tree.end(escaped, LEFTOVER_GRACE_SECONDS)
        found = found or bool(escaped)
        clear = 0 if escaped else clear + 1
    if found:
        _end_group(group)
    process_tree.adopted_alive()
    return found


def _end_group(group: int) -> None:
    """KILL what is left of a group, and wait until it is gone."""
    give_up_at = time.monotonic() + LEFTOVER_GRACE_SECONDS
    while signal_group(group, signal.SIGKILL) and time.monotonic() < give_up_at:
        process_tree.adopted_alive()  # a zombie counts until it is reaped
        time.sleep(0.005)
