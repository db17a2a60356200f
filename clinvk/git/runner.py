"""Run git so that neither the user's settings nor the environment decide what it does."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Mapping

from clinvk.core.errors import ClinvkError

TIMEOUT_SECONDS = 600.0
"""No step takes so long, unless a checkout has what blocks whoever reads it, such as a pipe."""
MOST_MESSAGE_CHARS = 300

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


Variables = Mapping[str, str | None]
"""Added to the environment of git; what is None is taken out of it."""


def git(
    *arguments: str | bytes,
    variables: Variables | None = None,
    directory: str | None = None,
    stdin: bytes = b"",
    allowed: Collection[int] = (0,),
    most_bytes: int | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
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
        timeout_seconds=timeout_seconds,
    )[1]


def git_status(
    *arguments: str | bytes,
    variables: Variables | None = None,
    directory: str | None = None,
    stdin: bytes = b"",
    allowed: Collection[int] = (0,),
    most_bytes: int | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> tuple[int, bytes]:
    """Run git as `git` does; returns its exit code, one of the allowed ones, and its output.

    Raises:
        GitError: it failed, takes too long, or is not installed.
        TooLargeError: it printed more than `most_bytes`.
    """
    program = shutil.which("git")
    if program is None:
        raise GitError("git is not installed")
    try:
        with tempfile.TemporaryFile() as output:  # of any size, and nothing waits for a reader
            done = subprocess.run(
                [program, *_SETTINGS, *arguments],
                cwd=directory,
                env=_environment(variables),
                input=stdin,
                stdout=output,
                stderr=subprocess.PIPE,
                timeout=timeout_seconds,
                check=False,
            )
            size = os.fstat(output.fileno()).st_size
            if done.returncode in allowed and (most_bytes is None or size <= most_bytes):
                return done.returncode, os.pread(output.fileno(), size, 0)
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git {_shown(arguments)} took longer than {timeout_seconds:g} s") from error
    except (OSError, ValueError) as error:
        raise GitError(f"git {_shown(arguments)} cannot be started: {error}") from error
    if done.returncode in allowed:
        raise TooLargeError(f"{size} bytes, more than {most_bytes}")
    said = done.stderr.decode("utf-8", "replace")
    raise GitError(_message(said) or f"git {_shown(arguments)} failed ({done.returncode})")


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
