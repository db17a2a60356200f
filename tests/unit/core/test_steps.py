"""Steps on the wire, those of other versions included."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clinvk.core.errors import WireError
from clinvk.core.spec import ErrorKind, Usage
from clinvk.core.steps import Step, StepKind, StepRecord

USAGE = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
STEPS = [
    Step(kind=StepKind.MESSAGE, text="größer ✓"),
    Step(kind=StepKind.TOOL_CALL, text="Edit a.py", tool="Edit", can_change=True),
    Step(kind=StepKind.TOOL_RESULT, tool="Edit", ok=False, size_bytes=0),
    Step(kind=StepKind.USAGE, usage=USAGE),
    Step(kind=StepKind.LIMIT, error_kind=ErrorKind.USAGE_LIMIT, until="2026-01-02T03:04:05.678Z"),
    Step(kind=StepKind.RETRY, delay_seconds=1.5),
    Step(kind=StepKind.ERROR, text="e"),
]


def record(step: Step) -> StepRecord:
    return StepRecord.of(step, index=3, attempt=2, time="2026-01-02T03:04:05.678Z", raw="{}")


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.kind)
def test_a_record_is_the_same_after_the_wire(step: Step) -> None:
    sent = record(step)
    read = StepRecord.from_wire(sent.to_wire())
    assert read == sent
    assert type(read.kind) is StepKind


def test_what_a_newer_version_adds_is_passed_over() -> None:
    newer = json.loads(record(STEPS[4]).to_wire()) | {
        "v": 99,
        "kind": "thought",
        "error_kind": "solar_storm",
        "mood": "fine",
        "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "cached_tokens": 4},
    }
    read = StepRecord.from_wire(json.dumps(newer))
    assert (read.kind, read.error_kind, read.usage) == ("thought", "solar_storm", USAGE)


@pytest.mark.parametrize(
    "change",
    [
        {"text": 1},
        {"index": "3"},
        {"ok": "yes"},
        {"kind": None},
        {"usage": []},
        {"usage": {"input_tokens": "many"}},
        {"delay_seconds": float("nan")},
        {"raw": {"a": [{}]}},
    ],
    ids=str,
)
def test_a_field_of_another_type_is_an_error(change: dict[str, Any]) -> None:
    forged = json.loads(record(STEPS[0]).to_wire()) | change
    with pytest.raises(WireError, match="cannot decode a StepRecord"):
        StepRecord.from_wire(json.dumps(forged))


@pytest.mark.parametrize("wire", [b"", b"[]", b"{}", b'{"kind": []}', b'"x"', b"3", b"\xff"])
def test_what_is_no_record_is_an_error(wire: bytes) -> None:
    with pytest.raises(WireError, match="cannot decode a StepRecord"):
        StepRecord.from_wire(wire)
