"""Where a task may run, and how long it may wait: what files say of it."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from typing import Any

import pytest

from clinvk.core.spec import TaskSpec
from clinvk.taskfile import chain, reader
from clinvk.taskfile.schema import TASKS
from tests.unit.taskfile.test_reader import BACKENDS, KNOWN, parse, problems, task

NEAREST = f'unknown backend "clade", did you mean "claude"? ({KNOWN})'


def only(text: str) -> TaskSpec:
    found: list[TaskSpec] = []

    def resolve(spec: TaskSpec) -> TaskSpec:
        found.append(spec)
        return dataclasses.replace(spec, max_wait_seconds=None)

    reader.parse(io.BytesIO(text.encode()), "t.json", BACKENDS, TASKS, resolve)
    (spec,) = found
    return spec


def file(header: dict[str, Any], **fields: Any) -> str:
    return json.dumps({"tasks": [{"backend": "echo", "prompt": "x"} | fields], **header})


@pytest.mark.parametrize(
    ("written", "seconds"), [(0, 0), (2.5, 2.5), ("6h", 21600), ("none", math.inf), (None, None)]
)
def test_how_long_a_task_may_wait(written: object, seconds: float | None) -> None:
    assert only(task(max_wait=written)).max_wait_seconds == seconds
    assert only(file({"max_wait": written})).max_wait_seconds == seconds


def test_a_list_of_backends_has_a_model_for_each() -> None:
    spec = only(task(backend=["echo", "claude:opus"], model="m"))
    assert spec == TaskSpec(
        backend="echo",
        prompt="x",
        model="m",
        alternatives=["claude"],
        variants={"claude": {"model": "opus"}},
    )
    assert only(task(backend=["echo:n"])) == TaskSpec(backend="echo", prompt="x", model="n")


def test_the_names_of_all_backends_are_known() -> None:
    parsed = parse(task(backend=["echo", "claude"], fallback=["claude:opus"]))
    assert list(parsed.backends) == ["echo", "claude"]
    assert list(parsed.choices) == [("echo", "claude")]


DEFAULTS: dict[str, Any] = {
    "max_wait": "6h",
    "retries": 5,
    "retry_on": ["failed"],
    "retry_after_changes": True,
    "fallback": ["claude"],
}


def test_the_top_level_has_defaults() -> None:
    assert only(file(DEFAULTS)) == TaskSpec(
        backend="echo",
        prompt="x",
        max_wait_seconds=21600,
        retries=5,
        retry_on=["failed"],
        retry_after_changes=True,
        fallback=["claude"],
    )


@pytest.mark.parametrize(
    ("own", "field", "value"),
    [
        ({"max_wait": 0}, "max_wait_seconds", 0),
        ({"max_wait": None}, "max_wait_seconds", None),
        ({"retries": 0}, "retries", 0),
        ({"retries": None}, "retries", None),
        ({"retry_on": []}, "retry_on", []),
        ({"retry_after_changes": False}, "retry_after_changes", False),
        ({"fallback": []}, "fallback", []),
        ({"fallback": None}, "fallback", None),
    ],
)
def test_what_a_task_says_itself_beats_the_top_level(
    own: dict[str, Any], field: str, value: object
) -> None:
    assert getattr(only(file(DEFAULTS, **own)), field) == value


def test_a_fallback_of_the_file_may_be_a_tasks_own_backend() -> None:
    assert only(file({"fallback": ["echo"]})).fallback == ["echo"]  # left out when it is resolved


NO = "is no kind to retry on"
WAIT = 'must be a number of seconds, or like "30s", "15m", "6h", "7d", or "none"'


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"max_wait": "5x"}, f'max_wait: {WAIT} (got "5x")'),
        ({"max_wait": -1}, f"max_wait: {WAIT} (got -1)"),
        ({"max_wait": True}, f"max_wait: {WAIT} (got true)"),
        ({"max_wait": [1]}, f"max_wait: {WAIT} (got [1])"),
        ({"max_wait_seconds": 5}, "max_wait_seconds: unknown field"),
        ({"alternatives": ["claude"]}, "alternatives: unknown field"),
        ({"variants": {}}, "variants: unknown field"),
        ({"max_wiat": 5}, 'max_wiat: unknown field, did you mean "max_wait"?'),
        ({"retries": -1}, "retries: must be >= 0 (got -1)"),
        ({"retries": "2"}, 'retries: must be an integer (got "2")'),
        ({"retry_on": "failed"}, 'retry_on: must be a list (got "failed")'),
        (
            {"retry_on": ["failed", "fialed"]},
            (
                "retry_on[1]: must be one of 'failed', 'timeout', 'overloaded', 'refused', 'auth'"
                ' (got "fialed")'
            ),
        ),
        (
            {"retry_on": ["canceled"]},
            f'retry_on[0]: "canceled" {NO}: what was canceled is not started again',
        ),
        (
            {"retry_on": ["usage_limit"]},
            f'retry_on[0]: "usage_limit" {NO}: limits are waited for, up to max_wait',
        ),
        ({"fallback": "claude"}, 'fallback: must be a list (got "claude")'),
        ({"fallback": [3]}, "fallback[0]: must be a string (got 3)"),
        ({"fallback": [" "]}, 'fallback[0]: must not be blank (got " ")'),
        (
            {"fallback": ["clade:opus"]},
            f"fallback[0]: {NEAREST}",
        ),
        (
            {"fallback": ["off"]},
            'fallback[0]: backend "off" is disabled in the configuration (backends.off.enabled)',
        ),
        ({"fallback": ["claude:"]}, 'fallback[0]: "claude:" has no model after the colon'),
        ({"fallback": [":opus"]}, 'fallback[0]: ":opus" has no backend before the colon'),
        ({"fallback": ["claude:a\0b"]}, "fallback: must not contain a NUL character"),
        ({"fallback": ["claude", "claude"]}, 'fallback[1]: "claude" is named twice'),
        ({"fallback": ["echo"]}, 'fallback[0]: "echo" is the task\'s own backend and model'),
        (
            {"fallback": ["echo:m"], "model": "m"},
            'fallback[0]: "echo:m" is the task\'s own backend and model',
        ),
        (
            {"backend": ["echo", "claude:opus"], "fallback": ["claude"]},
            'fallback[0]: "claude" is one of the task\'s own backends: name another model of it',
        ),
        ({"backend": []}, "backend: must not be empty (got [])"),
        ({"backend": [3]}, "backend[0]: must be a backend's name (got 3)"),
        (
            {"backend": ["echo", "clade"]},
            f"backend[1]: {NEAREST}",
        ),
        (
            {"backend": ["echo", "off"]},
            'backend[1]: backend "off" is disabled in the configuration (backends.off.enabled)',
        ),
        ({"backend": ["echo", "echo:m"]}, 'backend[1]: "echo" is named twice'),
        (
            {"backend": ["echo:m", "claude"], "model": "n"},
            'backend[0]: "echo:m" has a model, and so has the field model: keep one',
        ),
    ],
)
def test_each_problem_has_its_place(fields: dict[str, Any], problem: str) -> None:
    assert problems(task(**fields)) == [f"t.json: tasks[0].{problem}"]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ({"max_wait": "5x"}, f'max_wait: {WAIT} (got "5x")'),
        ({"max_wait": False}, f"max_wait: {WAIT} (got false)"),
        ({"retries": 1.5}, "retries: must be an integer (got 1.5)"),
        (
            {"fallback": ["clade"]},
            f"fallback[0]: {NEAREST}",
        ),
        ({"fallback": [3]}, "fallback[0]: must be a string (got 3)"),
        ({"fallback": ["claude", "claude"]}, 'fallback[1]: "claude" is named twice'),
        (
            {"retry_on": ["lost"]},
            f'retry_on[0]: "lost" {NO}: losses of workers are counted by max_attempts',
        ),
        ({"requires": {"clade": ">=2"}}, f"requires.clade: {NEAREST}"),
        (
            {"requires": {"claude": "2.1"}},
            'requires.claude: must be a range of versions such as ">=2.1.150,<3" (got "2.1")',
        ),
        ({"requires": {"tags": "gpu"}}, 'requires.tags: must be a list of tags (got "gpu")'),
        ({"requires": ["gpu"]}, 'requires: must be a mapping (got ["gpu"])'),
    ],
)
def test_each_problem_of_the_top_level_is_told_once(header: dict[str, Any], problem: str) -> None:
    assert problems(file(header)) == [f"t.json: {problem}"]


def test_all_problems_are_told_at_once() -> None:
    fields = {"max_wait": "x", "fallback": ["nope", 3, "claude:"], "retry_on": ["lost"], "model": 4}
    found = problems(task(**fields))
    places = [problem.removeprefix("t.json: tasks[0].").partition(":")[0] for problem in found]
    assert sorted(places) == [
        "fallback[0]",
        "fallback[1]",
        "fallback[2]",
        "max_wait",
        "model",
        "retry_on[0]",
    ]


def test_what_a_file_requires() -> None:
    required = {"claude": ">=2.1.150", "tags": ["gpu"]}
    assert parse(file({"requires": required})).header.requires == required
    assert parse(file({})).header.requires is None


def test_chains_have_them_too() -> None:
    import io

    text = '{"steps": [{"backend": ["echo", "claude"], "prompt": "x"}], "max_wait": "1h"}'
    (step,) = chain.parse(io.BytesIO(text.encode()), "t.json", BACKENDS).tasks
    assert (step.alternatives, step.max_wait_seconds) == (["claude"], 3600)
