"""Local runs whose provider has limits: they wait for these, and finish by themselves."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.user_paths import matching
from tests import harness, quick_limits
from tests.local.commands.test_durable_runs import kill_all
from tests.scripted_claude import SESSION, Script

Run = Callable[..., Mapping[str, Any]]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Script(folder)


@pytest.fixture
def env(tmp_path: Path, script: Script) -> Mapping[str, str]:
    """The variables with which `claude` is scripted, and limits are over soon."""
    (tmp_path / "config.yaml").write_text("worker: {sandbox: off}\n")
    return {
        "PATH": f"{script.folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": quick_limits.python_path(tmp_path),
        "CLINVK_CONFIG": str(tmp_path / "config.yaml"),
    }


@pytest.fixture
def run(tmp_path: Path, env: Mapping[str, str]) -> Run:
    """Run one task of `claude`; returns its result."""

    def run_it(*options: str, status: int = 0, **fields: Any) -> Mapping[str, Any]:
        tasks = json.dumps([{"backend": "claude", "prompt": "hello"} | fields])
        ended = harness.clinvk("parallel", "--json", *options, stdin=tasks, cwd=tmp_path, env=env)
        assert ended.status == status, ended.stderr
        (result,) = json.loads(ended.stdout)["results"]
        found: Mapping[str, Any] = result
        return found

    return run_it


def test_a_run_waits_until_a_window_opens_and_finishes(run: Run, script: Script) -> None:
    script.limits(1)
    script.says("fine")
    result = run()
    assert result["output"] == "fine"
    assert result["rejections"] == 1
    assert result["waited_seconds"] > 0
    (refused,) = result["tried"]
    assert (refused["backend"], refused["error_kind"]) == ("claude", "usage_limit")


def test_a_run_that_is_resumed_goes_on_in_its_session(
    tmp_path: Path, env: Mapping[str, str], script: Script
) -> None:
    """A laptop's lid is closed while a task waits that had called tools."""
    script.limits(12, acts=True)
    script.says("fine")
    tasks = tmp_path / "tasks.json"
    tasks.write_text(json.dumps([{"backend": "claude", "prompt": "hello"}]))
    client = subprocess.Popen(
        [*harness.CLINVK, "parallel", "--file", str(tasks)],
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
        env=os.environ | env,
        start_new_session=True,
    )
    sessions = Path(os.environ["HOME"], ".clinvk", "state", "sessions")
    try:
        harness.wait_until(lambda: matching(sessions, "*/*/traces.json"), "the session to be kept")
        run_id = harness.wait_until(lambda: waiting(env), "the task to wait")
    finally:
        kill_all(client)
    resumed = harness.clinvk("resume", run_id, "--json", cwd=tmp_path, env=env)
    (result,) = json.loads(resumed.stdout)["results"]
    assert result["output"] == "fine", result
    assert f"--resume {SESSION}" in script.said("argv")[1]
    assert list(sessions.glob("*/*/*")) == []


def waiting(env: Mapping[str, str]) -> str | None:
    """Return the run whose only task is put back; None where none is."""
    runs = json.loads(harness.clinvk("runs", "--json", env=env).stdout)
    return next((each["run_id"] for each in runs if not each["running"] and each["waiting"]), None)
