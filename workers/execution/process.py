"""Run one command to its end, and leave nothing of it behind.

The command gets a session and process group of its own, tags in its environment, and its stdin
from a file in memory, so that it can never wait for input. Its output goes to files, too
(`capture` says why). It ends by itself, by its deadline, or by a `StopSignal`: TERM to the group, a
few seconds, KILL, and then the same for whatever escaped from the group. That *we* stopped it is
recorded here: exit codes do not say so, since some CLIs exit 0 on SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from clinvk.backends.base import Command, ProcessResult
from workers.execution import local_time, orphans, process_tree
from workers.execution.capture import Stderr, Stdout, memory_file
from workers.execution.monitor import Monitor
from workers.execution.process_tree import signal_group
from workers.execution.sandbox.confined import Restricted
from workers.execution.spill import Spill
from workers.execution.stop_signal import StopSignal

TERM_GRACE_SECONDS = 5.0
"""Between TERM and KILL."""
STDERR_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLimits:
    """How much of a command's stdout is kept.

    Up to `output_bytes` in the result; where there is more, all of it in a file of `spill`, up to
    `spill_bytes`; what comes after is dropped.
    """

    output_bytes: int = 10 << 20
    spill_bytes: int = 1 << 30
    spill: Spill


def run(
    command: Command,
    *,
    inherited: Mapping[bytes, bytes],
    tags: Mapping[str, str],
    stop: StopSignal,
    limits: OutputLimits,
    cwd: str | None = None,
    timeout_seconds: float | None = None,
    stall_seconds: float | None = None,
    on_stall: Callable[[], object] = lambda: None,
    on_output: Callable[[bytes], object] | None = None,
    term_grace_seconds: float = TERM_GRACE_SECONDS,
    confined: Restricted | None = None,
) -> ProcessResult:
    """Run `command` and return what the operating system said of it.

    It is stopped after `timeout_seconds`, and after `stall_seconds` in which it writes nothing;
    then `on_stall` is called first. `on_output` gets its stdout in pieces while it runs. Both are
    called in this thread.

    Its environment is `inherited`, the command's own variables, and `tags`. The tag named
    `process_tree.TASK_TAG` must be unique: by it, what escaped from the group is found. `confined`
    is given where `command` has a sandbox around it, and says how to signal and end what is inside.

    Raises:
        OSError: it could not be started (no such program, an argument too long, …).
    """
    started, tag = time.monotonic(), tags[process_tree.TASK_TAG]
    folder = limits.spill.folder()
    with (
        closing(Stdout(limits.output_bytes, limits.spill_bytes, limits.spill, folder)) as stdout,
        closing(Stderr(STDERR_BYTES, folder)) as stderr,
        orphans.running(tag),
    ):
        environment = {**inherited, **_encoded(command.env), **_encoded(tags)}
        fds = confined.fds if confined else ()
        process = _start(command, stdout.fd, stderr.fd, cwd, environment, fds)
        with _ended_by_errors(process, tag):
            deadline = None if timeout_seconds is None else started + timeout_seconds
            stopped_by = Monitor(
                process,
                partial(_look, stdout, stderr, on_output),
                stop,
                deadline=deadline,
                stall_seconds=stall_seconds,
                on_stall=on_stall,
                grace_seconds=term_grace_seconds,
                signal_all=confined.signal if confined else signal_group,
            ).wait()
            duration_seconds = time.monotonic() - started
            has_orphans = confined.end() if confined else None
            if has_orphans is None:
                has_orphans = orphans.end(process.pid, tag)
        if on_output is not None:
            _pass_on(stdout.rest(), on_output)
        return ProcessResult(
            returncode=process.returncode,
            stdout=stdout.captured(),
            stderr=stderr.captured(),
            ended_at=local_time.now(),
            duration_seconds=duration_seconds,
            stopped_by=stopped_by,
            orphans=has_orphans and stopped_by is None,
        )


def _start(
    command: Command,
    stdout: int,
    stderr: int,
    cwd: str | None,
    environment: Mapping[bytes, bytes],
    fds: Sequence[int],
) -> subprocess.Popen[bytes]:
    stdin = memory_file(command.stdin)
    try:
        return subprocess.Popen(
            command.argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=environment,
            start_new_session=True,
            pass_fds=fds,
        )
    finally:
        os.close(stdin)


@contextlib.contextmanager
def _ended_by_errors(process: subprocess.Popen[bytes], tag: str) -> Iterator[None]:
    """End a process with all that it started if watching it fails: nobody else would."""
    try:
        yield
    except BaseException:
        signal_group(process.pid, signal.SIGKILL)
        process.wait()
        orphans.end(process.pid, tag)
        raise


def _look(stdout: Stdout, stderr: Stderr, on_output: Callable[[bytes], object] | None) -> int:
    """Pass on what is new of the output and trim it; returns how much there ever was, in bytes."""
    if on_output is not None:
        _pass_on(stdout.unread(), on_output)
    stdout.trim()
    stderr.trim()
    return stdout.written_bytes + stderr.written_bytes


def _pass_on(pieces: Iterable[bytes], on_output: Callable[[bytes], object]) -> None:
    for piece in pieces:
        on_output(piece)


def _encoded(variables: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}
