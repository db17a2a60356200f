"""The rounds of a task: when its CLI is asked again, how, and what they cost in all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from clinvk.backends.base import NO_SESSION, Captured, ParsedOutput, ProcessResult, Session
from clinvk.core.spec import TaskSpec, Usage, Verification
from clinvk.core.worker_config import WorkerConfig
from workers.execution.preparation import Preparation
from workers.execution.rounds import Complaint, Rounds

INVALID = Complaint.about_answer(["n: is wrong"])
FAILED = Complaint.about_work("make", Verification(exit_code=2, output="no rule"), "verify failed")
SCHEMA = {"type": "object"}


def rounds(backend: str = "claude", *, keeps_session: bool = True, **fields: Any) -> Rounds:
    spec = TaskSpec(backend=backend, prompt="count", **{"schema": SCHEMA, **fields})
    task = Preparation(WorkerConfig(backends={"py": {"command": ["true"]}}), "w@h").prepare(
        spec, lambda _: []
    )
    task.close()
    session = Session(keep=True) if keeps_session else NO_SESSION
    return Rounds(task, session, None, keeps_session=keeps_session)


def add(rounds: Rounds, seconds: float = 1.0, **parsed: Any) -> None:
    process = ProcessResult(
        returncode=0,
        stdout=Captured.of(b""),
        stderr=Captured.of(b""),
        ended_at=datetime.now(UTC),
        duration_seconds=seconds,
    )
    output = ParsedOutput(output="x", **parsed)
    rounds.add(process, output, "cli", output.usage, may_have_acted=bool(output.acted))


def test_a_complaint_is_handed_back_in_the_session() -> None:
    asked = rounds()
    add(asked, session_id="0" * 32, acted=True)
    assert asked.ask_again(INVALID, is_contained=False)
    assert asked.session == Session(keep=True, resume="0" * 32)
    said = asked.task.command.stdin.decode()
    assert "- n: is wrong" in said
    assert "count" not in said
    assert "--resume" in asked.task.command.argv
    assert "--json-schema" in asked.task.command.argv


def test_without_a_session_it_begins_anew_if_nothing_has_changed() -> None:
    asked = rounds("gemini", keeps_session=False)
    add(asked)
    assert asked.ask_again(INVALID, is_contained=False)
    said = asked.task.command.stdin.decode()
    assert said.startswith("count\n\nYour answer is not valid")
    assert said.endswith('{"type":"object"}')


@pytest.mark.parametrize(
    ("fields", "is_contained", "is_asked"),
    [({}, False, False), ({}, True, True), ({"retry_after_changes": True}, False, True)],
)
def test_what_has_acted_begins_anew_only_where_that_is_allowed(
    fields: dict[str, Any], is_contained: bool, is_asked: bool
) -> None:
    asked = rounds("py", keeps_session=False, **fields)
    add(asked, acted=True)
    assert asked.ask_again(INVALID, is_contained=is_contained) == is_asked
    assert bool(asked.parsed.warnings) != is_asked


def test_how_often_it_is_asked() -> None:
    asked = rounds(schema_repairs=2, verify=["make"], verify_retries=1)
    add(asked, session_id="0" * 32)
    each = [INVALID, FAILED, INVALID, FAILED, INVALID]
    answers = [asked.ask_again(complaint, is_contained=False) for complaint in each]
    assert answers == [True, True, True, False, False]


def test_a_task_has_no_more_time_than_it_was_given() -> None:
    asked = rounds(timeout_seconds=10, schema_repairs=9)
    add(asked, 4.0, session_id="0" * 32)
    assert asked.ask_again(INVALID, is_contained=False)
    assert asked.timeout_seconds == 6.0
    add(asked, 5.5)
    assert not asked.ask_again(INVALID, is_contained=False)
    assert asked.parsed.warnings == ("not asked again: its time is over",)


def test_what_all_rounds_used_is_one_sum() -> None:
    asked = rounds()
    usage = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
    add(asked, 1.5, usage=usage, cost_usd=0.1, session_id="0" * 32, acted=True, model="m")
    add(asked, 2.0, usage=usage, cost_usd=0.2, acted=False)
    assert asked.parsed.usage == Usage(input_tokens=20, output_tokens=10, total_tokens=30)
    assert (asked.parsed.cost_usd, asked.process.duration_seconds) == (0.3, 3.5)
    assert (asked.parsed.acted, asked.parsed.model, asked.cost_source) == (True, "m", "cli")


@pytest.mark.parametrize(
    ("fields", "keeps"),
    [
        ({}, False),
        ({"schema": SCHEMA}, True),
        ({"schema": SCHEMA, "schema_repairs": 0}, False),
        ({"verify": ["make"]}, False),
        ({"verify": ["make"], "verify_retries": 1}, True),
        ({"verify_retries": 1}, False),
    ],
    ids=str,
)
def test_a_session_is_kept_for_rounds_that_may_come(fields: dict[str, Any], keeps: bool) -> None:
    spec = TaskSpec(backend="claude", prompt="x", retries=0, max_wait_seconds=0, **fields)
    assert spec.may_go_on is keeps
