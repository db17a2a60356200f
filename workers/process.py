"""Run one command to its end, and leave nothing of it behind.

The command gets a session and process group of its own, a marker in its environment, and its
stdin from a file in memory, so that it can never wait for input. Its output is read as it comes.
It ends by itself, by its deadline, or by a `StopSignal`: TERM to the group, a few seconds, KILL,
and then whatever escaped from the group. That *we* stopped it is recorded here; exit codes do
not tell (some CLIs exit 0 on SIGTERM).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from workers import process_tree
from workers.backends.base import Captured, Command, Finished, StoppedBy

TERM_GRACE_SECONDS = 5.0
"""Between TERM and KILL."""
LEFTOVER_GRACE_SECONDS = 2.0
"""The same, for what a command left running when it ended by itself."""
LONGEST_WAIT_SECONDS = 3600.0
"""poll(2) counts milliseconds in an int; a far deadline is waited for in pieces."""
CHUNK_BYTES = 1 << 16
STDERR_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLimits:
    """How much of a command's stdout is kept.

    Up to `output_bytes` in memory; beyond that all of it goes to a file in `spill_dir`, up to
    `spill_bytes`; what comes after is read and dropped.
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
    marker: str,
    stop: StopSignal,
    limits: OutputLimits,
    cwd: str | None = None,
    timeout_seconds: float | None = None,
    term_grace_seconds: float = TERM_GRACE_SECONDS,
) -> Finished:
    """Run `command` and return what the operating system said of it.

    Raises:
        OSError: it could not be started (no such program, an argument too long, …).
    """
    started = time.monotonic()
    with (
        _memory_file(command.stdin) as stdin,
        _Capture(limits.output_bytes, limits) as stdout,
        _Capture(STDERR_BYTES, None) as stderr,
    ):
        process = subprocess.Popen(
            command.argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=cwd,
            env=_environment(command.env, marker),
            start_new_session=True,
        )
        supervisor = _Supervisor(process, stdout, stderr, stop, term_grace_seconds)
        deadline = None if timeout_seconds is None else started + timeout_seconds
        stopped_by = supervisor.wait(deadline)
        duration_seconds = time.monotonic() - started
        leftovers = _end_leftovers(process.pid, marker)
        supervisor.drain()
        return Finished(
            returncode=process.returncode,
            stdout=stdout.captured(),
            stderr=stderr.captured(),
            duration_seconds=duration_seconds,
            stopped_by=stopped_by,
            leftovers=leftovers and stopped_by is None,
        )


def _environment(extra: Mapping[str, str], marker: str) -> dict[str, str]:
    # The worker's own settings (broker password included) are none of the command's business.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CLINVK_")}
    return {**inherited, **extra, process_tree.MARKER: marker}


def _memory_file(content: bytes) -> IO[bytes]:
    if sys.platform == "linux":
        stream: IO[bytes] = open(os.memfd_create("prompt"), "w+b")  # noqa: PTH123, SIM115
    else:
        stream = tempfile.TemporaryFile()  # noqa: SIM115
    stream.write(content)
    stream.seek(0)
    return stream


class _Capture:
    """One stream's output as it comes; with `limits` it spills, without it keeps the end."""

    def __init__(self, cap_bytes: int, limits: OutputLimits | None) -> None:
        self._cap_bytes = cap_bytes
        self._limits = limits
        self._head = bytearray()
        self._size = 0
        self._spill: IO[bytes] | None = None
        self._spilled_bytes = 0

    def __enter__(self) -> _Capture:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spill is not None:
            self._spill.close()

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._limits is None:
            self._head += chunk
            if len(self._head) > 2 * self._cap_bytes:
                del self._head[: -self._cap_bytes]
            return
        room = self._cap_bytes - len(self._head)
        if self._spill is None and len(chunk) > room and self._spilled_bytes == 0:
            self._open_spill(self._limits)
        self._head += chunk[: max(room, 0)]
        self._write_spill(chunk, self._limits)

    def _open_spill(self, limits: OutputLimits) -> None:
        with contextlib.suppress(OSError):
            limits.spill_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._spill = tempfile.NamedTemporaryFile(  # noqa: SIM115
                dir=limits.spill_dir, prefix="stdout-", suffix=".log", delete=False
            )
            self._write_spill(bytes(self._head), limits)

    def _write_spill(self, chunk: bytes, limits: OutputLimits) -> None:
        if self._spill is None:
            return
        room = limits.spill_bytes - self._spilled_bytes
        try:
            self._spill.write(chunk[: max(room, 0)])
        except OSError:  # the disk is full: what is there stays, the rest is dropped
            self._spilled_bytes = limits.spill_bytes
        self._spilled_bytes += len(chunk)

    def captured(self) -> Captured:
        path = None
        if self._spill is not None:
            with contextlib.suppress(OSError):
                self._spill.flush()
            path = Path(self._spill.name)
        head = self._head if self._limits is not None else self._head[-self._cap_bytes :]
        return Captured(head=bytes(head), size=self._size, path=path)


class _Supervisor:
    """Reads a process's output and waits for its end, its deadline or its stop signal."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        stdout: _Capture,
        stderr: _Capture,
        stop: StopSignal,
        grace_seconds: float,
    ) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._stop = stop
        self._grace_seconds = grace_seconds
        self._streams = {process.stdout.fileno(): stdout, process.stderr.fileno(): stderr}
        self._pipes = (process.stdout, process.stderr)
        for fd in self._streams:
            os.set_blocking(fd, False)

    def wait(self, deadline: float | None) -> StoppedBy | None:
        stopped_by: StoppedBy | None = None
        kill_at: float | None = None
        with selectors.PollSelector() as selector, _exit_descriptor(self._process) as exit_fd:
            selector.register(exit_fd, selectors.EVENT_READ)
            selector.register(self._stop.fileno(), selectors.EVENT_READ)
            for fd in self._streams:
                selector.register(fd, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(_until(deadline, kill_at))}
                for fd in ready & self._streams.keys():
                    if not self._read(fd):
                        selector.unregister(fd)
                if exit_fd in ready:
                    self._process.wait()
                    return stopped_by
                now = time.monotonic()
                if self._stop.fileno() in ready:
                    selector.unregister(self._stop.fileno())
                    stopped_by = stopped_by or self._stop.reason
                elif deadline is not None and now >= deadline:
                    deadline = None
                    stopped_by = stopped_by or "timeout"
                if stopped_by is not None and kill_at is None:
                    signal_group(self._process.pid, signal.SIGTERM)
                    kill_at, deadline = now + self._grace_seconds, None
                elif kill_at is not None and now >= kill_at:
                    signal_group(self._process.pid, signal.SIGKILL)
                    kill_at = now + self._grace_seconds

    def _read(self, fd: int) -> bool:
        """Read one chunk; False at the end of the stream."""
        try:
            chunk = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:
            return True
        self._streams[fd].feed(chunk)
        return bool(chunk)

    def drain(self) -> None:
        """Take what is left in the pipes, without waiting for more, and close them."""
        for pipe in self._pipes:
            with contextlib.suppress(BlockingIOError):
                while chunk := os.read(pipe.fileno(), CHUNK_BYTES):
                    self._streams[pipe.fileno()].feed(chunk)
            pipe.close()


def _until(*moments: float | None) -> float | None:
    """Seconds until the first of these moments; None waits for ever."""
    known = [moment for moment in moments if moment is not None]
    return min(max(0.0, min(known) - time.monotonic()), LONGEST_WAIT_SECONDS) if known else None


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
    found = signal_group(group, signal.SIGTERM)
    if found or process_tree.adopted_alive():
        escaped = process_tree.marked(marker)
        process_tree.end(escaped, LEFTOVER_GRACE_SECONDS)
        found = found or bool(escaped)
        _end_group(group)
        process_tree.adopted_alive()
    return found


def _end_group(group: int) -> None:
    """KILL what is left of a group, and wait until it is gone."""
    give_up_at = time.monotonic() + LEFTOVER_GRACE_SECONDS
    while signal_group(group, signal.SIGKILL) and time.monotonic() < give_up_at:
        process_tree.adopted_alive()  # a zombie counts until it is reaped
        time.sleep(0.005)
