"""Readers of event streams get the same from memory and from a file, and whatever comes."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvk.backends import base, gemini, packaged_names
from clinvk.backends.base import Captured, ProcessResult
from clinvk.core.steps import STEP_CHARS, Step, StepKind
from tests.unit.backends.commands import ENDED_AT, REGISTRY, parse, steps
from tests.unit.backends.test_outcomes import CASES, Case

LINES = sorted({line for case in CASES for line in case.process.stdout.text().splitlines() if line})
BACKENDS = [*packaged_names(), "mytool"]


@given(
    backend=st.sampled_from(BACKENDS),
    lines=st.lists(
        st.builds(
            lambda line, start, end, more: line[start:end] + more,
            st.sampled_from(LINES),
            st.sampled_from([0, 0, 0, 1, 40]),
            st.sampled_from([None, None, None, 80, -1]),
            st.sampled_from(["", "", "}", '"', "\ud83d", "\x00", "\u2028"]),
        ),
        max_size=30,
    ),
    returncode=st.sampled_from([0, 1, 173, -9]),
)
def test_no_lines_can_make_a_reader_raise(backend: str, lines: list[str], returncode: int) -> None:
    reader = REGISTRY.get(backend).reader()
    told = [step for line in lines for step in reader.read(line, ENDED_AT)]
    parsed = reader.finish(
        ProcessResult(
            returncode=returncode, stdout=Captured(), stderr=Captured(), ended_at=ENDED_AT
        )
    )
    for step in told:
        assert isinstance(step.kind, StepKind)
        assert len(step.text) <= STEP_CHARS
        assert step.text.isprintable()
        assert step.until is None or datetime.fromisoformat(step.until)
    acted = any(step.can_change for step in told)
    assert parsed.acted == (None if backend == "mytool" else acted)
    assert parsed.retry_at is None or parsed.error_kind is not None


def spilled(case: Case, path: Path) -> ProcessResult:
    """The same process, whose output was too large for memory."""
    said = case.process
    path.write_bytes(said.stdout.head)
    return ProcessResult(
        returncode=said.returncode,
        stdout=Captured(head=said.stdout.head[:10], size=said.stdout.size, path=path),
        stderr=said.stderr,
        ended_at=said.ended_at,
    )


def test_output_that_was_spilled_means_the_same(tmp_path: Path) -> None:
    for case in CASES:
        told: list[Step] = []
        process = spilled(case, tmp_path / "stdout.log")
        parsed = base.parse(REGISTRY.get(case.backend), process, told.append)
        assert (parsed, told) == case.read()


@pytest.mark.parametrize("backend", ["claude", "codex", "gemini"])
def test_a_line_that_comes_in_pieces_is_passed_over(
    backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case = next(case for case in CASES if case.name == f"{backend}-answer")
    noise = b'{"type":"' + b"x" * 5000 + b'"}\n'
    path = tmp_path / "stdout.log"
    path.write_bytes(noise + b"\xff\xfe\n" + case.process.stdout.head + noise)
    monkeypatch.setattr(base, "LINE_CHARS", 3000)
    process = ProcessResult(
        returncode=0, stdout=Captured(path=path), stderr=Captured(), ended_at=ENDED_AT
    )
    assert base.parse(REGISTRY.get(backend), process) == case.read()[0]


def test_an_event_of_megabytes_is_one_small_step() -> None:
    huge = "word " * 400_000
    event = {"type": "tool_result", "status": "success", "output": huge}
    (result,) = steps("gemini", json.dumps(event).encode())
    assert (result.size_bytes, result.text) == (len(huge), "")
    answer = {"type": "message", "role": "assistant", "content": huge}
    (message,) = steps("gemini", f"{json.dumps(answer)}\n{json.dumps({'type': 'x'})}".encode())
    assert len(message.text) == STEP_CHARS


def test_what_gemini_holds_of_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemini, "LINE_CHARS", 100)
    delta = json.dumps({"type": "message", "role": "assistant", "content": "x" * 40})
    end = json.dumps({"type": "result", "status": "success"})
    parsed = parse("gemini", 0, "\n".join([*[delta] * 1000, end]).encode())
    assert parsed.output == "x" * 120
