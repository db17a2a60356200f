"""What a result says: what the CLI meant, and what we know beyond it."""

from __future__ import annotations

from dataclasses import replace

from clinvk.backends.base import Backend, Captured, ParsedOutput, ProcessResult, Session
from clinvk.core.spec import ErrorKind, TaskSpec, TaskStatus, Usage


def judged(
    parsed: ParsedOutput, process: ProcessResult, spec: TaskSpec, last_step: str
) -> ParsedOutput:
    """Add what we know; our own reason for stopping the CLI overrides what it says.

    `last_step` is what it did last before it was silent for too long.
    """
    if process.stopped_by == "timeout":
        error = f"stopped after {spec.timeout_seconds:g} s"
        parsed = _stopped(parsed, error, ErrorKind.TIMEOUT)
    elif process.stopped_by == "stalled":
        last = f" (last: {last_step})" if last_step else ""
        error = f"no output for {spec.stall_timeout_seconds:g} s{last}"
        parsed = _stopped(parsed, error, ErrorKind.TIMEOUT)
    elif process.stopped_by == "canceled":
        parsed = _stopped(parsed, "canceled", ErrorKind.CANCELED)
    if process.orphans:
        parsed = _warned(parsed, f"{spec.backend} left processes running; they were stopped")
    return _with_limit(parsed, process)


def _stopped(parsed: ParsedOutput, error: str, kind: ErrorKind) -> ParsedOutput:
    """Put our own reason for stopping the CLI in the place of what it said."""
    return replace(parsed, error=error, error_kind=kind, retry_at=None)


def _with_limit(parsed: ParsedOutput, process: ProcessResult) -> ParsedOutput:
    """Say that a task went over one of its limits: as its error, or a warning if it is ok."""
    if process.limit_reached is None or process.stopped_by is not None:
        return parsed
    words = f"went over its limit ({process.limit_reached})"
    if parsed.error_kind is None:
        return _warned(parsed, words)
    return replace(parsed, error=f"{words}: {parsed.error}")


def _warned(parsed: ParsedOutput, warning: str) -> ParsedOutput:
    return replace(parsed, warnings=(*parsed.warnings, warning))


def own_usage(
    parsed: ParsedOutput, backend: Backend, session: Session, before: Usage | None
) -> tuple[ParsedOutput, Usage | None]:
    """Return an output with the usage of this round alone, and that of its whole session.

    `before` is what the session had used by then.
    """
    if not backend.counts_session or session.resume is None:
        return parsed, parsed.usage
    if parsed.usage is None or before is None:
        return parsed, parsed.usage or before
    return replace(parsed, usage=parsed.usage.minus(before)), parsed.usage


def cut(parsed: ParsedOutput, stdout: Captured, limit_bytes: int, worker: str) -> ParsedOutput:
    """Cut the answer to the limit, and warn where the CLI printed more than that."""
    if stdout.size > limit_bytes:
        parsed = _warned(
            parsed,
            f"the output of {stdout.size} bytes is over the limit of {limit_bytes}: "
            f"{_where_it_is(stdout, worker)}",
        )
    if parsed.output is not None and len(parsed.output) > limit_bytes // 4:  # perhaps, in UTF-8
        kept_bytes = parsed.output.encode("utf-8", "replace")[:limit_bytes]
        parsed = replace(parsed, output=kept_bytes.decode("utf-8", "ignore"))
    return parsed


def _where_it_is(stdout: Captured, worker: str) -> str:
    """Say how much of a long output was kept, and where."""
    if stdout.path is None:
        return "the rest is lost"
    is_whole = stdout.saved_bytes == stdout.size
    kept = "all of it is" if is_whole else f"its first {stdout.saved_bytes} bytes are"
    return f"{kept} in {stdout.path} on {worker}"


def status_of(error_kind: ErrorKind | None) -> TaskStatus:
    """Return the status of a task that ended with this kind of error, or none."""
    match error_kind:
        case None:
            return TaskStatus.OK
        case ErrorKind.TIMEOUT:
            return TaskStatus.TIMEOUT
        case ErrorKind.CANCELED:
            return TaskStatus.CANCELED
        case _:
            return TaskStatus.FAILED


def exit_code(process: ProcessResult | None, parsed: ParsedOutput) -> int:
    """Return the CLI's own code; -1 when we stopped it or never started it.

    A CLI that exits 0 without an answer has failed, with 1, so that scripts which look at the
    exit code alone see it.
    """
    if process is None or process.stopped_by is not None:
        return -1
    if process.returncode == 0 and parsed.error_kind is not None:
        return 1
    return process.returncode
