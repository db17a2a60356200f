"""Policy files as people write them, right and wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from clinvk.core.errors import ConfigError
from clinvk.core.worker_config import WorkerConfig
from workers.execution import policy_file
from workers.execution.executor import Executor
from workers.execution.policy import Policy

WHOLE = """
max_sandbox_mode: workspace
max_approval_mode: auto
max_timeout_seconds: 1800
max_turns: 50
workdir_roots: [/srv]
backends: [claude]
models: ["opus*"]
extra: []
allowed_tools: [Read]
project_settings: false
"""


def test_every_rule_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(WHOLE)
    assert policy_file.load(str(path)) == Policy(
        max_sandbox_mode="workspace",
        max_approval_mode="auto",
        max_timeout_seconds=1800,
        max_turns=50,
        workdir_roots=["/srv"],
        backends=["claude"],
        models=["opus*"],
        extra=[],
        allowed_tools=["Read"],
        project_settings=False,
    )
    rules = [field.name for field in dataclasses.fields(Policy)]
    assert sorted(policy_file.RULES) == sorted(rules)


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        ("- a", ["must be a mapping of rules"]),
        ("max_sandbox: full", ['max_sandbox: unknown rule, did you mean "max_sandbox_mode"?']),
        (
            "max_sandbox_mode: default\nextra: --x",
            [
                "max_sandbox_mode: must be one of read-only, workspace, full (got 'default')",
                "extra: must be a list of strings (got '--x')",
            ],
        ),
        (
            "max_turns: 0\nmax_timeout_seconds: -1\nproject_settings: 'yes'\nmodels: [1]",
            [
                "max_turns: must be a whole number of at least 1 (got 0)",
                "max_timeout_seconds: must be a number above 0 (got -1)",
                "project_settings: must be true or false (got 'yes')",
                "models: must be a list of strings (got [1])",
            ],
        ),
        ("max_turns: true", ["max_turns: must be a whole number of at least 1 (got True)"]),
        ("max_timeout_seconds: .inf", ["max_timeout_seconds: must be a number above 0 (got inf)"]),
        (
            "backends: [claude]\nmax_sandbox_mode: read-only\nbackends: ['*']",
            ['is not valid YAML: duplicate key "backends" at line 3, column 1'],
        ),
        ("backends: [claude", ["is not valid YAML: did not find expected ',' or ']' at line 2"]),
        (b"\xff", ["is not UTF-8 text (byte 0)"]),
    ],
)
def test_bad_policy_files(tmp_path: Path, content: str | bytes, problems: list[str]) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        policy_file.load(str(path))
    assert len(caught.value.problems) == len(problems)
    for found, problem in zip(caught.value.problems, problems, strict=True):
        assert found.startswith(f"{path}: {problem}")


def test_a_policy_file_that_is_not_there_stops_the_worker(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Executor(WorkerConfig(policy_file=str(tmp_path / "none.yaml")), "w@h", "w@h/1")
