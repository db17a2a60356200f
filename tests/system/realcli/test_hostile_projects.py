"""What a repository's own settings can do to a task, through the real CLIs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.system.realcli import fakeapi, hostile
from tests.system.realcli.sealed import REQUESTS, STOLEN
from tests.system.realcli.test_end_to_end import GEMINI, SEALED, run
from tests.unit.git.checkouts import repository

pytestmark = pytest.mark.timeout(300)


CLI_ALONE = {"sandbox": "off"}
"""Without the operating system's sandbox, which would hold some of the attacks by itself."""


def attack(
    tmp_path: Path, worker: dict[str, Any], policy: str, **fields: Any
) -> tuple[set[str], list[dict[str, Any]]]:
    """Run a task in each hostile repository; returns the attacks that worked, and the results."""
    folder, home = tmp_path / "repositories", tmp_path / "home"
    tasks = [{**fields, **task} for task in hostile.plant(folder)]
    for task in tasks:
        if task["backend"] == "gemini":
            task["model"] = GEMINI
    (tmp_path / "tasks.json").write_text(json.dumps({"tasks": tasks}))
    (tmp_path / "policy.yaml").write_text(policy)
    settings = {**worker, "policy": str(tmp_path / "policy.yaml")}
    # Two that start at once in a new home set up one database.
    config = {"worker": settings, "queues": {"opencode": {"max_concurrency": 1}}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    clinvk = [sys.executable, "-m", "clinvk", "parallel", "--json", "-q"]
    files = ["--config", str(tmp_path / "config.yaml"), "-f", str(tmp_path / "tasks.json")]
    done = subprocess.run(
        [*SEALED, str(home), "sh", "-c", hostile.trust(home, folder), "sh", *clinvk, *files],
        cwd=harness.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    stolen = home / STOLEN
    lines = stolen.read_text().splitlines() if stolen.exists() else []
    prompts = [json.loads(line)["prompt"] for line in lines]
    return hostile.succeeded(folder, prompts), json.loads(done.stdout)["results"]


def answers(results: list[dict[str, Any]]) -> set[str]:
    return {result["output"] for result in results if not result.get("error")}


ANSWERS = {fakeapi.answer_to(name) for name in hostile.ATTACKS}


def test_they_work_where_the_policy_allows_project_settings(tmp_path: Path) -> None:
    """Each attack is one: else the tests below could not fail."""
    policy = "max_sandbox_mode: workspace\nproject_settings: true\n"
    worked, _ = attack(tmp_path, CLI_ALONE, policy, sandbox_mode="workspace")
    assert worked == set(hostile.ATTACKS)


def test_they_do_not_under_a_maximum_and_instructions_are_still_read(tmp_path: Path) -> None:
    """Tasks that name no mode get the maximum, in a sandbox, in which a CLI may do all it can."""
    worked, results = attack(tmp_path, {}, "max_sandbox_mode: workspace\n")
    assert worked == set()
    assert answers(results) == ANSWERS
    assert {result["sandbox"]["mode"] for result in results} == {"workspace"}
    lines = (tmp_path / "home" / REQUESTS).read_text().splitlines()
    read = {marker for line in lines for marker in json.loads(line)["markers"]}
    assert read == {"AGENTS.md", "CLAUDE.md", "GEMINI.md"}  # copilot reads all of them


def test_they_do_not_in_a_worktree_of_a_repository_that_was_fetched(tmp_path: Path) -> None:
    """Where the task has no mode they do: what the hook has made is among its changes."""
    attack = hostile.ATTACKS["claude-hook"]
    (settings,) = attack.files
    top = repository(tmp_path / "app", {settings: json.dumps(attack.files[settings])})
    task = {
        "backend": "claude",
        "prompt": "question:worktree",
        "workspace": "worktree",
        "repo": f"file://{top}",
        "workdir": ".",
    }
    _, document = run(tmp_path, [task, {**task, "sandbox_mode": "workspace"}])
    free, restricted = document["results"]
    assert free["changed_files"] == [hostile.PROOF]
    assert restricted["output"] == fakeapi.answer_to("worktree")
    assert "changed_files" not in restricted
