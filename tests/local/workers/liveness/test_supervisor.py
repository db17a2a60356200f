"""A worker and its supervisor: whichever of the two is killed, nothing that was started stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clinvk.core.worker_config import WORKER_CONFIG, WorkerConfig
from tests import escape, harness
from tests.worker_processes import Workers, worker_of, workers

__all__ = ["workers"]

pytestmark = [
    pytest.mark.usefixtures("temporary"),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers"),
]

WORKER = [*harness.PYTHON, "-m", "workers", "--queues", "clinvk.escape"]


def start(workers: Workers) -> subprocess.Popen[bytes]:
    """Start a worker of the backend whose processes escape."""
    config = WorkerConfig(backends={"escape": {"command": escape.COMMAND}})
    workers.env[WORKER_CONFIG] = config.dump()
    return workers.start(WORKER)


def submit(workers: Workers, prompt: str) -> None:
    tasks = json.dumps([{"backend": "escape", "prompt": prompt, "on_worker_lost": "fail"}])
    config = json.dumps({"backends": {"escape": {"command": escape.COMMAND}}})
    path = Path(workers.env["TMPDIR"], "config.json")
    path.write_text(config)
    done = workers.clinvk("parallel", "--detach", "--config", str(path), stdin=tasks)
    path.unlink()
    assert done.status == 0, done.stderr


def test_a_killed_worker_leaves_nothing(workers: Workers, tmp_path: Path) -> None:
    process = start(workers)
    submit(workers, f"stay {tmp_path}/pid")
    pid = escape.escaped(tmp_path / "pid")
    os.kill(worker_of(process), signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert escape.is_gone(pid)
    (run,) = workers.store.runs(1)
    assert workers.clinvk("wait", run.run_id).status == 1
    assert "lost: its worker released it" in workers.clinvk("results", run.run_id).stdout
