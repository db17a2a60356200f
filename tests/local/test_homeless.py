"""clinvk as a user without a home, as containers have them; and paths to homes of nobody."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from clinvk.local.supervisor import LocalSupervisor, Orders
from tests import harness

TASK = '{"backend": "echo", "prompt": "hi"}'
NO_ENTRY = """
import pwd
def getpwuid(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = getpwuid
"""
"""Python runs it at its start: the list of users does not have this one."""


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    (tmp_path / "sitecustomize.py").write_text(NO_ENTRY)
    monkeypatch.delenv("HOME", raising=False)
    paths = [str(tmp_path), str(harness.ROOT), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def test_a_user_without_a_home_runs_tasks(homeless: Mapping[str, str]) -> None:
    done = harness.clinvk("parallel", "--json", stdin=TASK, env=homeless)
    (result,) = json.loads(done.stdout)["results"]
    assert (done.status, result["status"]) == (0, "ok")
    assert harness.clinvk("config", "show", env=homeless).status == 0
    path = harness.clinvk("config", "path", env=homeless)
    assert (path.status, path.stdout) == (0, "/nonexistent/.clinvk/config.yaml\n")


def test_a_policy_with_the_home_of_nobody_is_refused(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text('workdir_roots: ["~nobodyhere/x"]\n')
    env = {"CLINVK_WORKER_POLICY": str(policy), "CLINVK_BROKER_URL": "redis+socket:///nowhere"}
    done = harness.clinvk("worker", "--queues", "echo", env=env)
    assert (done.status, done.stderr.count("\n")) == (3, 1)
    assert "workdir_roots: must be a list of paths (~nobodyhere/x: there is no user" in done.stderr


def test_the_log_of_workers_is_its_users_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        LocalSupervisor(str(tmp_path), Orders.__new__(Orders))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "worker.log").stat().st_mode) == 0o600
