"""`verify`: the command that says whether what a task did holds, run where its CLI worked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from clinvk.backends.base import Command, ProcessResult
from clinvk.core.sanitize import multi_line, one_line
from clinvk.core.shell import SHELL, shown
from clinvk.core.spec import ErrorKind, Verification
from workers.execution.preparation import PreparedTask
from workers.execution.refusal import RefusedError
from workers.execution.rounds import Complaint

DEFAULT_TIMEOUT_SECONDS = 600.0
LAST_LINES = 60
LAST_CHARS = 6000
ERROR_CHARS = 300
TO_STDERR = 'exec "$@" >&2'
"""Of stderr a worker keeps the end, where a test says what failed; of stdout the beginning."""


def verify(
    task: PreparedTask,
    run: Callable[[PreparedTask, float], ProcessResult],
    mask: Callable[[str], str],
) -> tuple[Verification, Complaint | None]:
    """Run the command of a task that has one; returns what it said, and the complaint if it failed.

    `run` is as in `set_up`. `mask` hides secrets in a text.

    Raises:
        RefusedError: the task was canceled, or the command cannot be started.
    """
    argv = task.spec.verify or []
    shell = replace(task, command=Command(argv=(SHELL, "-c", TO_STDERR, "sh", *argv), stdin=b""))
    timeout_seconds = task.spec.verify_timeout_seconds or DEFAULT_TIMEOUT_SECONDS
    process = run(shell, timeout_seconds)
    if process.stopped_by not in {None, "timeout"}:
        raise RefusedError(ErrorKind.CANCELED, "canceled while it was verified")
    output = mask(_end(multi_line(process.stderr.text()).strip()))
    if process.stopped_by == "timeout":
        error = f"verify was stopped after {timeout_seconds:g} s"
        verification = Verification(exit_code=-1, output=output)
    elif process.returncode != 0:
        limit = f", over its limit {process.limit_reached}" if process.limit_reached else ""
        said = one_line(output[-ERROR_CHARS:]) or "it printed nothing"
        error = f"verify failed ({process.returncode}{limit}): {said}"
        verification = Verification(exit_code=process.returncode, output=output)
    else:
        return Verification(exit_code=0, output=output), None
    return verification, Complaint.about_work(shown(argv), verification, error)


def _end(text: str) -> str:
    return "\n".join(text.split("\n")[-LAST_LINES:])[-LAST_CHARS:]
