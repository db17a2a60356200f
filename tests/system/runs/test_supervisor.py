"""A worker and its supervisor: whichever of the two ends, nothing that was started stays."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests import escape, harness
from tests.local.workers.liveness.test_supervisor import start, submit
from tests.worker_processes import Workers, worker_of, workers

__all__ = ["workers"]

pytestmark = pytest.mark.usefixtures("temporary")


def test_a_worker_stops_when_its_supervisor_is_killed(workers: Workers, tmp_path: Path) -> None:
    process = start(workers)
    worker = worker_of(process)
    submit(workers, f"stay {tmp_path}/pid")
    pid = escape.escaped(tmp_path / "pid")
    process.kill()
    process.wait()
    harness.wait_until(lambda: not harness.running(worker), "the worker to end")
    harness.wait_until(lambda: escape.is_gone(pid), "what it started to end")


def test_sigterm_drains_and_nothing_is_left(workers: Workers, tmp_path: Path) -> None:
    process = start(workers)
    submit(workers, f"leave {tmp_path}/pid")
    pid = escape.escaped(tmp_path / "pid")
    process.terminate()
    assert process.wait() == 0
    assert escape.is_gone(pid)
    (run,) = workers.store.runs(1)
    assert run.ended_ms is not None  # closed by this worker: there may be no other


def test_sighup_starts_a_worker_anew(workers: Workers) -> None:
    process = start(workers)
    before = worker_of(process)
    process.send_signal(signal.SIGHUP)

    def pids() -> set[int]:
        return {entry["pid"] for entry in workers.store.workers().values()}

    harness.wait_until(lambda: pids() - {before, process.pid}, "another worker to be announced")
    assert process.poll() is None
    assert not harness.running(before)
    assert pids() == {worker_of(process)}
