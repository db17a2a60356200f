"""`setup`: the command that makes a fresh worktree ready, before the task's own is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from clinvk.backends.base import Command, ProcessResult
from clinvk.core.shell import command_line
from clinvk.core.spec import ErrorKind
from clinvk.git.runner import GitError
from workers.execution.preparation import PreparedTask
from workers.execution.refusal import RefusedError

DEFAULT_TIMEOUT_SECONDS = 600.0
MOST_SHOWN_CHARS = 500


def set_up(task: PreparedTask, run: Callable[[PreparedTask, float], ProcessResult]) -> None:
    """Set up the worktree of a task, if it has a fresh one and a command for it.

    `run` runs the command of a task, for so many seconds at most, as the task's own is run: with
    the same sandbox, environment and limits.

    Raises:
        RefusedError: the command failed, and the task with it.
    """
    spec, worktree = task.spec, task.worktree
    if worktree is None or not worktree.is_fresh or spec.setup is None:
        return
    shell = replace(task, command=Command(argv=command_line(spec.setup), stdin=b""))
    timeout_seconds = spec.setup_timeout_seconds or DEFAULT_TIMEOUT_SECONDS
    process = run(shell, timeout_seconds)
    if process.stopped_by == "timeout":
        raise RefusedError(ErrorKind.TIMEOUT, f"setup was stopped after {timeout_seconds:g} s")
    if process.stopped_by is not None:
        raise RefusedError(ErrorKind.CANCELED, "canceled while it was set up")
    if process.returncode != 0:
        said = (process.stderr.text().strip() or process.stdout.text().strip())[-MOST_SHOWN_CHARS:]
        raise RefusedError(ErrorKind.FAILED, f"setup failed ({process.returncode}): {said}")
    try:
        worktree.begin()
    except (GitError, OSError) as error:
        what = f"the worktree cannot be read after its setup: {error}"
        raise RefusedError(ErrorKind.FAILED, what) from error
