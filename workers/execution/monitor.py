"""Wait for a command: its end, its deadline, its silence or its stop signal, whatever is first."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator

from clinvk.backends.base import StoppedBy
from workers.execution.process_tree import signal_group
from workers.execution.stop_signal import StopSignal

SHORT_GRACE_SECONDS = 2.0
"""Between TERM and KILL at the most, where another worker may soon start the task."""
LOOK_SECONDS = 0.2
"""How often the output is looked at, at the least: a step is seen so much later."""
FIRST_LOOK_SECONDS = 0.05
"""When it is looked at first, and while it is a flood: it may grow over its limit for so long."""
FLOOD_BYTES = 1 << 24
"""An output that grows by so much between two looks is a flood."""


class Monitor:
    """Waits for a process's end, stops it where it must, and has its output looked at meanwhile.

    `look` reads and trims the output and returns how much of it there ever was, in bytes; where
    that does not grow for `stall_seconds`, the process has stalled: `on_stall` is called before it
    is stopped. `deadline` is a time of `time.monotonic`; `grace_seconds` lie between TERM and KILL.
    `signal_all` signals all processes of the command, by the group of the one that is waited for.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        look: Callable[[], int],
        stop: StopSignal,
        *,
        deadline: float | None,
        stall_seconds: float | None,
        on_stall: Callable[[], object] = lambda: None,
        grace_seconds: float,
        signal_all: Callable[[int, int], bool] = signal_group,
    ) -> None:
        self._process = process
        self._look_at_output = look
        self._stop = stop
        self._stop_fd = stop.fileno()
        self._deadline = deadline
        self._grace_seconds = grace_seconds
        self._signal_all = signal_all
        self._stopped_by: StoppedBy | None = None
        self._kill_at: float | None = None
        self._poll = select.poll()
        self._look_seconds = FIRST_LOOK_SECONDS
        self._stall_seconds = stall_seconds
        self._on_stall = on_stall
        self._written_bytes = 0
        self._wrote_at = time.monotonic()

    def wait(self) -> StoppedBy | None:
        """Wait for the end of the process; returns why we stopped it, None if we did not."""
        self._poll.register(self._stop_fd, select.POLLIN)
        with exit_descriptor(self._process) as exit_fd:
            self._poll.register(exit_fd, select.POLLIN)
            try:
                self._wait(exit_fd)
            except BaseException:  # nobody would watch the process any more
                self._signal_all(self._process.pid, signal.SIGKILL)
                raise
            finally:
                self._process.wait()
        return self._stopped_by

    def _wait(self, exit_fd: int) -> None:
        while exit_fd not in (ready := self._next()):
            now = time.monotonic()
            self._look(now)
            self._note_reason(ready, now)
            self._stop_process(now)

    def _next(self) -> Collection[int]:
        """Wait for something to do; returns the descriptors that became readable."""
        moments = (self._deadline, self._kill_at)
        known = [moment - time.monotonic() for moment in moments if moment is not None]
        timeout_seconds = max(0.0, min([*known, self._look_seconds]))
        return [fd for fd, _ in self._poll.poll(1000 * timeout_seconds)]

    def _look(self, now: float) -> None:
        """Note whether the output has grown, and look again the sooner the faster it grows."""
        grown_bytes = self._look_at_output() - self._written_bytes
        if grown_bytes > 0:
            self._written_bytes += grown_bytes
            self._wrote_at = now
        is_flood = grown_bytes > FLOOD_BYTES
        next_seconds = FIRST_LOOK_SECONDS if is_flood else 2 * self._look_seconds
        self._look_seconds = min(next_seconds, LOOK_SECONDS)

    def _note_reason(self, ready: Collection[int], now: float) -> None:
        """Take note of a reason to stop; the first one counts."""
        if self._stop_fd in ready:
            self._poll.unregister(self._stop_fd)
            self._stopped_by = self._stopped_by or self._stop.reason
        elif self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self._stopped_by = self._stopped_by or "timeout"
        elif self._stall_seconds is not None and now >= self._wrote_at + self._stall_seconds:
            self._stall_seconds = None
            if self._stopped_by is None:
                self._stopped_by = "stalled"
                self._on_stall()

    def _stop_process(self, now: float) -> None:
        """Send TERM once there is a reason, and KILL when the grace is over."""
        if self._stopped_by is not None and self._kill_at is None:
            self._signal_all(self._process.pid, signal.SIGTERM)
            self._kill_at, self._deadline = now + self._grace(self._stopped_by), None
        elif self._kill_at is not None and now >= self._kill_at:
            signal_group(self._process.pid, signal.SIGKILL)
            self._kill_at = now + self._grace_seconds

    def _grace(self, stopped_by: StoppedBy) -> float:
        is_urgent = stopped_by in {"disconnected", "requeued"}
        return min(self._grace_seconds, SHORT_GRACE_SECONDS) if is_urgent else self._grace_seconds


@contextlib.contextmanager
def exit_descriptor(process: subprocess.Popen[bytes]) -> Iterator[int]:
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
