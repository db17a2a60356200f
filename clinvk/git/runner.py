"""Run git so that neither the user's settings nor the environment decide what it does."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, Self

from clinvk.core.errors import ClinvkError

TIMEOUT_SECONDS = 600.0
"""No step takes so long, unless a checkout has what blocks whoever reads it, such as a pipe."""
MOST_MESSAGE_CHARS = 300
GRACE_SECONDS = 2.0
"""Between TERM and KILL, for git that is stopped."""
LOOK_SECONDS = 0.1
"""How often git that may be stopped is looked at, at the least."""

_ENVIRONMENT = {
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ALLOW_PROTOCOL": "none",  # nothing is fetched, so no program of a transport is started
    "GIT_PAGER": "cat",
}
_SETTINGS = (
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "safe.directory=*"),  # nothing that its owner could have put there is run
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
    *("-c", "transfer.fsckObjects=true"),
)


class GitError(ClinvkError):
    """git could not do something; the message is git's own."""


class TooLargeError(GitError):
    """git had more to say than may be kept."""


class StoppedError(GitError):
    """git was stopped because somebody asked for it."""


class OverdueError(GitError):
    """git was stopped because it took longer than it may."""


class HasFileno(Protocol):
    """What has a descriptor that can be waited for."""

    def fileno(self) -> int:
        """Return the descriptor."""


@dataclass(frozen=True, slots=True)
class Until:
    """Until when a long step may go on: a time of `time.monotonic`, or until `stop` is readable."""

    deadline: float | None = None
    stop: HasFileno | None = None

    def within(self, seconds: float | None) -> Self:
        """Return the same, but so many seconds from now at the latest."""
        if seconds is None:
            return self
        ends = time.monotonic() + seconds
        return replace(self, deadline=ends if self.deadline is None else min(ends, self.deadline))

    def wait(self, seconds: float) -> None:
        """Wait for so long.

        Raises:
            StoppedError: it is not to go on.
            OverdueError: it has no time left.
        """
        left = None if self.deadline is None else self.deadline - time.monotonic()
        if left is not None and left <= 0:
            raise OverdueError("it took too long")
        poll = select.poll()
        if self.stop is not None:
            poll.register(self.stop.fileno(), select.POLLIN)
        if poll.poll(1000 * (seconds if left is None else min(seconds, left))):
            raise StoppedError("it was stopped")


FOR_EVER = Until()

Variables = Mapping[str, str | None]
"""Added to the environment of git; what is None is taken out of it."""


def git(
    *arguments: str | bytes,
    variables: Variables | None = None,
    directory: str | None = None,
    stdin: bytes = b"",
    allowed: Collection[int] = (0,),
    most_bytes: int | None = None,
) -> bytes:
    """Run git and return what it printed; `allowed` are the exit codes that are no failure.

    Its environment has nothing of this process's but PATH.

    Raises:
        GitError: it failed, takes too long, or is not installed.
        TooLargeError: it printed more than `most_bytes`.
    """
    return git_status(
        *arguments,
        variables=variables,
        directory=directory,
        stdin=stdin,
        allowed=allowed,
        most_bytes=most_bytes,
    )[1]


def git_status(
    *arguments: str | bytes,
    variables: Variables | None = None,
    directory: str | None = None,
    stdin: bytes = b"",
    allowed: Collection[int] = (0,),
    most_bytes: int | None = None,
) -> tuple[int, bytes]:
    """Run git as `git` does; returns its exit code, one of the allowed ones, and its output.

    Raises:
        GitError: it failed, takes too long, or is not installed.
        TooLargeError: it printed more than `most_bytes`.
    """
    program = _program()
    try:
        with tempfile.TemporaryFile() as output:  # of any size, and nothing waits for a reader
            done = subprocess.run(
                [program, *_SETTINGS, *arguments],
                cwd=directory,
                env=_environment(variables),
                input=stdin,
                stdout=output,
                stderr=subprocess.PIPE,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
            size = os.fstat(output.fileno()).st_size
            if done.returncode in allowed and (most_bytes is None or size <= most_bytes):
                return done.returncode, os.pread(output.fileno(), size, 0)
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git {_shown(arguments)} took longer than {TIMEOUT_SECONDS:g} s") from error
    except (OSError, ValueError) as error:
        raise GitError(f"git {_shown(arguments)} cannot be started: {error}") from error
    if done.returncode in allowed:
        raise TooLargeError(f"{size} bytes, more than {most_bytes}")
    raise _failed(arguments, done.returncode, done.stderr)


def git_until(until: Until, *arguments: str, variables: Variables, directory: str) -> None:
    """Run git as `git` does, for as long as it may, in a process group of its own.

    Raises:
        GitError: it failed, is not installed, or was stopped with all that it had started.
    """
    command = [_program(), *_SETTINGS, *arguments]
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=_environment(variables),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            raise GitError(f"git {_shown(arguments)} cannot be started: {error}") from error
        try:
            _wait(process, until)
        except BaseException:
            _end_group(process)
            raise
        if process.returncode != 0:
            said = os.pread(errors.fileno(), os.fstat(errors.fileno()).st_size, 0)
            raise _failed(arguments, process.returncode, said)


def _wait(process: subprocess.Popen[bytes], until: Until) -> None:
    """Wait for a process; the first looks come soon, since most are short."""
    seconds = LOOK_SECONDS / 20
    while process.poll() is None:
        until.wait(seconds)
        seconds = min(2 * seconds, LOOK_SECONDS)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End git and what it has started: programs that fetch, and those that take what comes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)


def _program() -> str:
    program = shutil.which("git")
    if program is None:
        raise GitError("git is not installed")
    return program


def _failed(arguments: Iterable[str | bytes], code: int, stderr: bytes) -> GitError:
    said = _message(stderr.decode("utf-8", "replace"))
    return GitError(said or f"git {_shown(arguments)} failed ({code})")


def _environment(variables: Variables | None) -> dict[str, str]:
    path = os.environ.get("PATH", os.defpath)
    wanted = {**_ENVIRONMENT, "PATH": path, **(variables or {})}
    return {name: value for name, value in wanted.items() if value is not None}


def _shown(arguments: Iterable[str | bytes]) -> str:
    return os.fsdecode(next(iter(arguments), ""))


def _message(said: str) -> str:
    """Return the first of git's lines that says what is wrong."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal: ", "error: "))]
    first = (telling or lines or [""])[0]
    return first.removeprefix("fatal: ").removeprefix("error: ")[:MOST_MESSAGE_CHARS]
