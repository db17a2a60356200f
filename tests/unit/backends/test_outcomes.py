"""What the real CLIs said when they ended, and what it means: the corpus of `tests/outcomes`.

`pytest -n 0 -s tests/unit/backends/test_outcomes.py -k table` prints it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from clinvk.backends import base, outcomes
from clinvk.backends.base import Captured, ParsedOutput, ProcessResult
from clinvk.core.spec import ErrorKind
from clinvk.core.steps import Step, StepKind
from clinvk.core.timestamps import rfc3339
from tests import harness
from tests.unit.backends.commands import REGISTRY

FOLDER = harness.ROOT / "tests" / "outcomes"
CORPUS = sorted(FOLDER.glob("*.jsonl"))


@dataclass(frozen=True)
class Case:
    """A line of the corpus, and what it means; `retry_at` is as expected.json says it."""

    backend: str
    said: dict[str, Any]
    expected: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.backend}-{self.said['name']}"

    @property
    def process(self) -> ProcessResult:
        lines = (
            line if isinstance(line, str) else json.dumps(line) for line in self.said["stdout"]
        )
        return ProcessResult(
            returncode=self.said["returncode"],
            stdout=Captured.of("".join(f"{line}\n" for line in lines).encode()),
            stderr=Captured.of(self.said["stderr"].encode()),
            ended_at=self.ended_at,
        )

    @property
    def ended_at(self) -> datetime:
        return datetime.fromisoformat(self.said["at"]).astimezone(ZoneInfo(self.said["zone"]))

    @property
    def retry_at(self) -> str | None:
        """The expected time: `exact` is what the API said, `+N` is N seconds after the end."""
        match self.expected["retry_at"]:
            case "exact":
                return rfc3339(datetime.fromisoformat(self.said["opens_at"]))
            case "minute":
                return rfc3339(datetime.fromisoformat(self.said["opens_at"]).replace(second=0))
            case str(delay) if delay.startswith("+"):
                return rfc3339(self.ended_at + timedelta(seconds=float(delay)))
            case other:
                return None if other is None else str(other)

    def read(self) -> tuple[ParsedOutput, list[Step]]:
        steps: list[Step] = []
        return base.parse(REGISTRY.get(self.backend), self.process, steps.append), steps


def cases(path: Path) -> Iterator[Case]:
    expected = json.loads(path.with_suffix(".expected.json").read_text(encoding="utf-8"))
    for line in path.read_text(encoding="utf-8").splitlines():
        said = json.loads(line)
        yield Case(path.stem, said, expected[said["name"]])


CASES = [case for path in CORPUS for case in cases(path)]


def found(parsed: ParsedOutput) -> tuple[str | None, str | None, bool | None]:
    retry_at = rfc3339(parsed.retry_at) if parsed.retry_at else None
    return parsed.error_kind, retry_at, parsed.acted


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_outcome(case: Case) -> None:
    parsed, _ = case.read()
    expected = (case.expected["error_kind"], case.retry_at, case.expected["acted"])
    assert found(parsed) == expected, parsed.error


def test_table() -> None:
    right = 0
    for case in CASES:
        parsed, _ = case.read()
        kind, retry_at, acted = found(parsed)
        is_right = (kind, retry_at, acted) == (
            case.expected["error_kind"],
            case.retry_at,
            case.expected["acted"],
        )
        right += is_right
        words = (parsed.error or "")[:60]
        mark = "" if is_right else "WRONG"
        print(f"{case.name:34}{kind or 'ok':14}{retry_at or '-':26}{acted!s:6}{words} {mark}")
    print(f"{right} of {len(CASES)} right")
    assert right == len(CASES) >= 80


def test_limits_that_other_models_do_not_share() -> None:
    assert {case.name for case in CASES if case.read()[0].limited_model} == {
        *("claude-opus", "claude-sonnet", "claude-fable", "claude-quoted_fable"),
        *("codex-quoted_model", "codex-stream_rate_day"),
        *("gemini-day", "gemini-day_after_look", "gemini-day_after_shell"),
        *("gemini-window", "gemini-window_no_time", "gemini-new_york"),
    }


def test_what_lacks_capacity_is_told_from_what_is_broken() -> None:
    assert {case.name for case in CASES if case.read()[0].at_capacity} == {
        *("claude-api_overloaded", "claude-subscription_overloaded"),
        *("claude-overloaded_after_write", "claude-quoted_529", "claude-quoted_high_load"),
        *("codex-no_capacity", "codex-stream_no_capacity", "codex-no_capacity_after_write"),
        *("codex-openai_529", "codex-quoted_policy"),
        *("gemini-google_capacity", "gemini-google_overloaded", "gemini-overloaded_after_write"),
        *("copilot-chat_529", "copilot-chat_stream_overloaded"),
        *("opencode-chat_529", "opencode-chat_stream_overloaded"),
    }


def test_each_expectation_has_its_line() -> None:
    named = {(case.backend, case.said["name"]) for case in CASES}
    expected = {
        (path.stem, name)
        for path in CORPUS
        for name in json.loads(path.with_suffix(".expected.json").read_text())
    }
    assert len(named) == len(CASES)
    assert named == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_limit_is_a_step_with_the_time_of_the_result(case: Case) -> None:
    parsed, steps = case.read()
    told = [step for step in steps if step.kind == StepKind.LIMIT and step.error_kind]
    if parsed.error_kind not in outcomes.LIMITS or parsed.error_kind is None:
        assert told == []
        return
    if told:  # a CLI that only says why on stderr, or while it tries again, tells of no limit
        assert told[-1].error_kind == parsed.error_kind
        assert told[-1].until == (rfc3339(parsed.retry_at) if parsed.retry_at else None)
    assert told or any(step.kind == StepKind.RETRY for step in steps)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (429, "", ErrorKind.RATE_LIMITED),
        (429, "You exceeded your current quota", ErrorKind.QUOTA),
        (400, "Your credit balance is too low", ErrorKind.QUOTA),
        (402, "", ErrorKind.QUOTA),
        (500, "quota exceeded", ErrorKind.OVERLOADED),
        (503, "", ErrorKind.OVERLOADED),
        (529, "", ErrorKind.OVERLOADED),
        (401, "billing", ErrorKind.AUTH),
        (403, "", ErrorKind.AUTH),
        (413, "", ErrorKind.TOO_LARGE),
        (404, "", ErrorKind.INVALID),
        (418, "", ErrorKind.FAILED),
    ],
)
def test_kind_of_a_status(status: int, message: str, kind: ErrorKind) -> None:
    assert outcomes.kind_of_status(status, message) is kind


def test_own_patterns_come_before_the_common_ones() -> None:
    own = ((r"usage limit", ErrorKind.AUTH),)
    assert outcomes.kind_of_text("your Usage Limit", own) is ErrorKind.AUTH
    assert outcomes.kind_of_text("your Usage Limit", ()) is ErrorKind.USAGE_LIMIT
    assert outcomes.kind_of_text("connect: Connection refused", ()) is ErrorKind.OVERLOADED
    assert outcomes.kind_of_text("HTTP 503", ()) is ErrorKind.OVERLOADED
    assert outcomes.kind_of_text("in line 503", own) is None


AT = datetime(2026, 11, 24, 22, 0, tzinfo=ZoneInfo("UTC"))


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        (ErrorKind.RATE_LIMITED, "try again in 5m", ErrorKind.RATE_LIMITED),
        (ErrorKind.RATE_LIMITED, "try again in 5m1s", ErrorKind.USAGE_LIMIT),
        (ErrorKind.QUOTA, "try again in 1s", ErrorKind.USAGE_LIMIT),
        (ErrorKind.QUOTA, "never", ErrorKind.QUOTA),
        (ErrorKind.OVERLOADED, "try again in 1h", ErrorKind.OVERLOADED),
    ],
)
def test_when_it_opens_tells_a_window(kind: ErrorKind, message: str, expected: ErrorKind) -> None:
    assert outcomes.outcome(message, kind, AT).kind is expected


def test_only_a_limit_has_a_time() -> None:
    assert outcomes.outcome("try again in 1s", ErrorKind.AUTH, AT).retry_at is None
    assert outcomes.outcome("try again in 1s", ErrorKind.OVERLOADED, None).retry_at is None
