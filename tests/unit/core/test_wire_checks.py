"""Values that came from the wire are held against the annotations of their fields."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given

from clinvk.core import wire_checks
from clinvk.core.errors import WireError
from clinvk.core.spec import RunOptions, TaskResult, TaskSpec, TaskStatus
from tests import forged

SPEC = {"v": 1, "backend": "echo", "prompt": "x"}
RESULT = {"v": 1, "index": 0, "status": "ok", "exit_code": 0, "duration_seconds": 1}


def encode(fields: dict[str, Any], **more: Any) -> str:
    return json.dumps(fields | more)


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("timeout_seconds", "x", "timeout_seconds must be a number (got 'x')"),
        ("timeout_seconds", True, "timeout_seconds must be a number (got True)"),
        ("timeout_seconds", float("nan"), "timeout_seconds must be a finite number (got nan)"),
        ("timeout_seconds", float("inf"), "timeout_seconds must be a finite number (got inf)"),
        ("timeout_seconds", 10**400, "timeout_seconds must be a finite number (got a int)"),
        ("timeout_seconds", -1, "timeout_seconds must be > 0 (got a int)"),
        ("max_turns", 1.0, "max_turns must be an integer (got 1.0)"),
        ("max_turns", False, "max_turns must be an integer (got False)"),
        ("max_turns", 0, "max_turns must be >= 1 (got a int)"),
        ("backend", "", "backend must not be empty (got '')"),
        ("backend", ["echo"], "backend must be a string (got a list)"),
        ("prompt", " ", "prompt must not be blank (got ' ')"),
        ("prompt", None, "prompt must be a string (got None)"),
        ("tags", "x", "tags must be a list (got 'x')"),
        ("extra", ["a", 1], "extra has an item that must be a string (got a list)"),
        ("meta", {"a": []}, "meta has a value that must be a string (got a dict)"),
        ("meta", [], "meta must be a mapping (got a list)"),
        ("inputs", {"{{previous}}": "0"}, "inputs has a value that must be an integer"),
        ("approval_mode", "yes", "approval_mode must be one of default, auto, none, always"),
        ("approval_mode", [], "approval_mode must be one of default, auto, none, always"),
        ("unheard\nof", 1, r"'unheard\nof' is not a known field"),
    ],
)
def test_a_spec_with_a_value_that_does_not_fit_is_refused(
    name: str, value: object, wrong: str
) -> None:
    with pytest.raises(WireError, match="cannot decode a TaskSpec: ") as raised:
        TaskSpec.from_wire(encode(SPEC, **{name: value}))
    assert wrong in str(raised.value)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("null", "must be an object"),
        ("[]", "must be an object"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "digits"),
        ("{}", "its wire version is missing"),
        (b"\xff", "utf-8"),
        (encode(SPEC, v="1"), "its wire version is missing"),
        (encode(SPEC, v=True), "its wire version is missing"),
        (encode(SPEC, v=99), "it is of wire version 99, and this clinvk reads up to 1: upgrade it"),
    ],
)
def test_what_is_no_task_at_all_is_refused(text: str | bytes, wrong: str) -> None:
    with pytest.raises(WireError, match="cannot decode a TaskSpec: ") as raised:
        TaskSpec.from_wire(text)
    assert wrong in str(raised.value)


def test_what_can_be_read_of_a_result_is_kept() -> None:
    result = TaskResult.from_wire(
        encode(RESULT, output="paid for", model=[], usage={"input_tokens": "x"}, of_a_newer=1)
    )
    assert (result.status, result.output, result.model, result.usage) == (
        TaskStatus.OK,
        "paid for",
        None,
        None,
    )
    assert [warning.split(":")[1].split()[0] for warning in result.warnings] == ["model", "usage"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("status", "fine"), ("status", []), ("index", "0"), ("exit_code", None), ("v", None)],
)
def test_a_result_without_what_it_needs_is_refused(name: str, value: object) -> None:
    with pytest.raises(WireError, match="cannot decode a TaskResult: "):
        TaskResult.from_wire(encode(RESULT, **{name: value}))


def test_what_is_nested_too_deeply_for_a_reader_is_left_out() -> None:
    deep: list[object] = []
    for _ in range(300):
        deep = [deep]
    result = TaskResult.from_wire(encode(RESULT, output="paid for", data={"n": deep}))
    assert (result.output, result.data) == ("paid for", None)
    assert "data is nested too deeply" in result.warnings[0]
    with pytest.raises(WireError, match="schema is nested too deeply"):
        TaskSpec.from_wire(encode(SPEC, schema={"enum": deep}))


def test_a_part_of_a_result_that_lacks_something_costs_no_more_than_the_part() -> None:
    result = TaskResult.from_wire(encode(RESULT, output="paid for", sandbox={"by": "bwrap"}))
    assert (result.output, result.sandbox) == ("paid for", None)
    assert "sandbox has no mode" in result.warnings[0]


@given(forged.SPECS)
def test_any_task_is_refused_or_can_be_started(wire: bytes) -> None:
    forged.check_spec(wire)


@given(forged.RESULTS)
def test_any_result_can_be_shown(wire: bytes) -> None:
    forged.check_result(wire)


def test_null_stands_for_a_field_that_is_not_set() -> None:
    result = TaskResult.from_wire(encode(RESULT, usage=None, error_kind=None))
    assert (result.usage, result.error_kind) == (None, None)


def test_flags_are_true_or_false() -> None:
    with pytest.raises(WireError, match="fail_fast must be true or false"):
        RunOptions.from_wire('{"v": 1, "fail_fast": 1}')


@dataclass
class Odd:
    values: set[int] = field(default_factory=set)


def test_a_type_that_has_no_check_yet_is_noticed() -> None:
    with pytest.raises(TypeError, match="no check for"):
        list(wire_checks.problems(Odd, {"values": []}))
