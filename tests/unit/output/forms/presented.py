"""A run for tests of output forms, with texts of all kinds in it."""

from __future__ import annotations

import io
from pathlib import Path

from hypothesis import strategies as st

from clinvk.core.spec import (
    ErrorKind,
    RunOptions,
    TaskResult,
    TaskSpec,
    TaskStatus,
    Usage,
    Verification,
)
from clinvk.output.kinds import formatter_of
from clinvk.output.reporter import Presentation, View
from clinvk.output.streams import Output, Streams
from clinvk.runs.report import Report

HOSTILE = (
    "=cmd()\r\n]]></system-out><testcase/> | `x` <script>alert(1)</script>\n"
    "::error::\x1b[31m\x00\ud800\ufffe\u202e& \"'"
)
TEXTS = st.text() | st.sampled_from([HOSTILE, "", "\n", "\r", "::add-mask::x", "<!--", "|"])
KINDS = st.none() | st.sampled_from([*ErrorKind])


@st.composite
def results(draw: st.DrawFn, index: int) -> TaskResult:
    kind = draw(KINDS)
    status = TaskStatus.OK if kind is None else TaskStatus.FAILED
    if kind in {ErrorKind.CANCELED, ErrorKind.LOST, ErrorKind.TIMEOUT}:
        status = TaskStatus(str(kind))
    return TaskResult(
        index=index,
        status=status,
        exit_code=0,
        duration_seconds=draw(st.floats(0, 1e6)),
        output=draw(TEXTS) if kind is None else None,
        error=draw(TEXTS) if kind else None,
        error_kind=kind,
        usage=draw(st.none() | st.builds(Usage, total_tokens=st.integers(0, 10**9))),
        cost_usd=draw(st.none() | st.floats(0, 100)),
        data=draw(st.none() | TEXTS | st.lists(TEXTS, max_size=2)),
        verify=draw(st.none() | st.builds(Verification, exit_code=st.integers(), output=TEXTS)),
        warnings=draw(st.lists(TEXTS, max_size=2)),
    )


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """A run that has ended, in any way."""
    count = draw(st.integers(1, 4))
    specs = [TaskSpec(backend="echo", prompt=draw(TEXTS) or "p", id=f"t{n}") for n in range(count)]
    return Report(
        run_id="r1",
        specs=specs,
        results=[draw(results(index)) for index in range(count)],
        started_ms=1_700_000_000_000,
        ended_ms=1_700_000_001_500,
    )


def report(*statuses: TaskStatus, error: str = "e", kind: ErrorKind | None = None) -> Report:
    """A run of tasks that ended so."""
    return Report(
        run_id="r1",
        specs=[TaskSpec(backend="echo", prompt="p") for _ in statuses],
        results=[
            TaskResult(
                index=index,
                status=status,
                exit_code=0,
                duration_seconds=1.5,
                output="a" if status is TaskStatus.OK else None,
                error=None if status is TaskStatus.OK else error,
                error_kind=None if status is TaskStatus.OK else kind or ErrorKind.FAILED,
            )
            for index, status in enumerate(statuses)
        ],
        started_ms=1_700_000_000_000,
        ended_ms=1_700_000_001_500,
    )


def presentation(name: str, path: Path, *specs: TaskSpec) -> Presentation:
    """What the form `name` gets that writes to `path`."""
    return Presentation(
        view=View(paths={name: str(path)}),
        formatter=formatter_of("parallel"),
        specs=specs,
        options=RunOptions(),
        streams=Streams(Output(io.StringIO())),
        width=80,
    )
