"""A run that requires a tag, on workers as processes of which one is killed."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from clinvk.core.worker_config import WORKER_CONFIG, WorkerConfig
from tests import harness
from tests.worker_processes import HOST, OURS, Workers, worker_of, workers

__all__ = ["workers"]

pytestmark = pytest.mark.usefixtures("temporary")

TASKS = 6


def test_only_tagged_workers_run_its_tasks_and_one_takes_over_from_another(
    workers: Workers, tmp_path: Path
) -> None:
    backends = {"sh": {"command": ["sh"]}}
    (tmp_path / "config.yaml").write_text(json.dumps({"backends": backends}))
    workers.env["CLINVK_CONFIG"] = str(tmp_path / "config.yaml")
    start = [*OURS[:3], "--queues", "clinvk.sh", "--concurrency", "2", "--name"]

    def worker(name: str, *tags: str) -> int:
        workers.env[WORKER_CONFIG] = WorkerConfig(backends=backends, tags=tags).dump()
        return worker_of(workers.start([*start, name]))

    worker("plain")
    first = worker("first", "gpu", "eu")
    prompt = f"echo >> {tmp_path}/began; until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo ok"
    file = {
        "tasks": [{"backend": "sh", "prompt": prompt}] * TASKS,
        "max_parallel": TASKS,
        "requires": {"tags": ["gpu"]},
    }

    def has_begun(count: int) -> None:
        began = tmp_path / "began"
        harness.wait_until(
            lambda: began.exists() and began.read_text().count("\n") == count,
            f"{count} executions to begin",
        )

    submitted = workers.clinvk("parallel", "--detach", stdin=json.dumps(file))
    assert submitted.status == 0, submitted.stderr
    run = submitted.stdout.strip()
    has_begun(2)
    worker("second", "gpu")
    has_begun(4)
    os.kill(first, signal.SIGKILL)
    harness.wait_until(lambda: len(workers.store.workers()) == 2, "the dead one to be withdrawn")
    (tmp_path / "go").touch()
    assert workers.clinvk("wait", run).status == 0
    results = list(workers.store.results(run, range(TASKS)))
    assert {result.worker for result in results if result} == {f"second@{HOST}"}
    assert sorted(result.attempts for result in results if result) == [1] * 4 + [2] * 2
    _, events = workers.store.wait_events(run, "0", 10)
    finished = Counter(event["index"] for event in events if event["kind"] == "finished")
    assert finished == dict.fromkeys(map(str, range(TASKS)), 1)
    started = {event["worker"] for event in events if event["kind"] == "started"}
    assert started == {f"first@{HOST}", f"second@{HOST}"}
    refused = workers.clinvk("parallel", stdin=json.dumps({**file, "requires": {"tags": ["eu"]}}))
    assert (refused.status, refused.stdout) == (4, "")
    assert refused.stderr.splitlines()[-1] == (
        "clinvk: no live worker that serves sh has what the run requires (tags eu): "
        f"plain@{HOST} has no tags; second@{HOST} has tags gpu (--wait-for-workers submits anyway)"
    )
