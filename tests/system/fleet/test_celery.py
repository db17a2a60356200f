"""Celery's own commands serve as well: `celery -A workers.app worker`, and `celery inspect`."""

from __future__ import annotations

import pytest

from tests.worker_processes import CELERY, Workers, assert_both_count, workers

__all__ = ["workers"]

pytestmark = pytest.mark.usefixtures("temporary")


@pytest.mark.parametrize(
    ("options", "slots"),
    [(["-c", "6"], 12), (["-P", "threads", "-c", "6"], 12), (["-P", "solo"], 2)],
    ids=["our pool", "threads", "solo"],
)
def test_two_workers_started_alike_both_count(
    workers: Workers, options: list[str], slots: int
) -> None:
    argv = [*CELERY, "worker", "-Q", "clinvk.echo", *options]
    assert_both_count(workers, argv, "celery", slots)


def test_a_pool_of_processes_is_refused(workers: Workers) -> None:
    ended = workers.clinvk("worker", "-P", "processes", "-c", "1", command=CELERY)
    assert ended.status == 2
    assert ended.stderr.splitlines()[-1] == (
        "clinvk: a worker runs on the threads pool: start it with -P threads"
    )
