"""Workers as processes: each has a name of its own, by which the fleet and Celery know it."""

from __future__ import annotations

import os
import signal

import pytest

from tests.worker_processes import HOST, OURS, Workers, assert_both_count, worker_of, workers

__all__ = ["workers"]

pytestmark = pytest.mark.usefixtures("temporary")


def test_two_workers_started_alike_both_count(workers: Workers) -> None:
    assert_both_count(workers, OURS, "clinvk", slots=12)


def test_a_worker_that_is_started_again_has_the_name_that_it_had(workers: Workers) -> None:
    first = workers.start(OURS)
    workers.start(OURS)
    os.kill(worker_of(first), signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    again = workers.start(OURS)
    entries = workers.store.workers()
    assert sorted(entries) == [f"clinvk-2@{HOST}", f"clinvk@{HOST}"]
    assert entries[f"clinvk@{HOST}"]["pid"] == worker_of(again)
