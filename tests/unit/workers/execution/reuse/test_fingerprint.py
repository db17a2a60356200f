"""What has to be the same for a result to be taken again."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from clinvk.core.spec import TaskSpec
from clinvk.core.worker_config import WorkerConfig
from workers.execution.preparation import Preparation
from workers.execution.reuse.directory_state import DirectoryState
from workers.execution.reuse.fingerprint import fingerprint

SPEC = TaskSpec(backend="claude", prompt="review", model="opus", reuse=True)
STATE = DirectoryState(tree="1" * 40)


def of(
    spec: TaskSpec = SPEC, version: str = "2.0", state: DirectoryState = STATE, **variables: str
) -> str:
    task = Preparation(WorkerConfig(sandbox="off"), "w@h").accept(spec, lambda _: [])
    with closing(task):
        return fingerprint(task, version, state, variables, lambda _: None)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "review!"},
        {"model": "sonnet"},
        {"backend": "codex"},
        {"system_prompt": "be brief"},
        {"max_turns": 3},
        {"approval_mode": "auto"},
        {"extra": ["--verbose"]},
        {"allowed_tools": ["Read"]},
        {"workspace": "worktree"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_reaches_the_cli_counts(change: dict[str, Any]) -> None:
    assert of(replace(SPEC, **change)) != of()


def test_version_state_and_what_the_environment_tells_a_cli_count() -> None:
    others = {
        of(version="2.1"),
        of(state=replace(STATE, tree="2" * 40)),
        of(state=replace(STATE, path="src")),
        of(ANTHROPIC_MODEL="haiku"),
    }
    assert len(others - {of()}) == 4


def test_what_only_names_a_task_or_bounds_it_does_not_count() -> None:
    named = replace(
        SPEC, id="a", name="b", tags=["c"], meta={"d": "e"}, timeout_seconds=9.0, retries=7
    )
    assert of(named) == of()
    assert of(ANTHROPIC_API_KEY="other", TERM="dumb") == of()
