"""Local runs whose provider has limits: they wait for these, and finish by themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import harness, quick_limits
from tests.scripted_claude import Script

Run = Callable[..., Mapping[str, Any]]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Script(folder)


@pytest.fixture
def run(tmp_path: Path, script: Script) -> Run:
    """Run one task of `claude`, where limits are over soon; returns its result."""
    env = {
        "PATH": f"{script.folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": quick_limits.python_path(tmp_path),
        "CLINVK_CONFIG": str(tmp_path / "config.yaml"),
    }
    (tmp_path / "config.yaml").write_text("worker: {sandbox: off}\n")

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
    assert result["waited_seconds"] > 1
    (refused,) = result["tried"]
    assert (refused["backend"], refused["error_kind"]) == ("claude", "usage_limit")
