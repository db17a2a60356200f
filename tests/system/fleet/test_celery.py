"""Celery's own commands serve as well: `celery -A workers.app worker`, and `celery inspect`."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinvk.broker.app import create_app
from clinvk.core.worker_config import BROKER_URL, WORKER_CONFIG, WorkerConfig
from tests import harness
from tests.worker_processes import CELERY, OURS, Workers, assert_both_count, workers
from workers.bootstep import UNCONTAINED

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


ORDERS = {
    "shutdown": {},
    "revoke": {"task_id": "RUN-0"},
    "terminate": {"signal": "KILL", "task_id": "RUN-0"},
    "pool_grow": {"n": 5},
    "pool_shrink": {"n": 5},
    "pool_restart": {},
    "rate_limit": {"task_name": "clinvk.execute", "rate_limit": "1/h"},
    "time_limit": {"task_name": "clinvk.execute", "hard": 1},
    "autoscale": {"max": 9, "min": 9},
    "add_consumer": {"queue": "clinvk.claude"},
    "cancel_consumer": {"queue": "clinvk.echo"},
    "objgraph": {},
    "memdump": {},
}


def test_orders_are_refused_and_questions_answered(workers: Workers) -> None:
    process = workers.start([*CELERY, "worker", "-Q", "clinvk.echo", "-c", "2"])
    harness.wait_until(workers.pinged, "the worker to listen")
    app = create_app(workers.env[BROKER_URL])
    for name, given in ORDERS.items():
        ((answer,),) = (
            reply.values() for reply in app.control.broadcast(name, given, reply=True, limit=1)
        )
        assert answer["error"].startswith(f"{name} is off on celery@"), name
    inspect = app.control.inspect(limit=1)
    for name in ("ping", "stats", "active", "reserved", "registered", "active_queues", "conf"):
        assert getattr(inspect, name)(), name
    # The list of revoked tasks that a starting worker brings along is not taken either.
    app.control.broadcast("hello", {"from_node": "x", "revoked": {"RUN-0": 1}}, reply=True, limit=1)
    assert list(inspect.revoked().values()) == [[]]
    assert process.poll() is None
    assert "echo" in workers.clinvk("queues").stdout


def test_a_machine_may_allow_orders(workers: Workers) -> None:
    workers.env[WORKER_CONFIG] = WorkerConfig(remote_control=True).dump()
    process = workers.start([*CELERY, "worker", "-Q", "clinvk.echo", "-c", "2"])
    harness.wait_until(workers.pinged, "the worker to listen")
    create_app(workers.env[BROKER_URL]).control.shutdown()
    harness.wait_until(lambda: process.poll() is not None, "the worker to obey")
    assert process.returncode == 0


def test_a_worker_without_a_supervisor_above_it_says_what_it_cannot_contain(
    workers: Workers, tmp_path: Path
) -> None:
    workers.start(OURS)
    assert UNCONTAINED not in (tmp_path / "workers.log").read_text()
    workers.start([*CELERY, "worker", "-Q", "clinvk.echo"])
    assert UNCONTAINED in (tmp_path / "workers.log").read_text()


def test_a_pool_of_processes_is_refused(workers: Workers) -> None:
    ended = workers.clinvk("worker", "-P", "processes", "-c", "1", command=CELERY)
    assert ended.status == 2
    assert ended.stderr.splitlines()[-1] == (
        "clinvk: a worker runs on the threads pool: start it with -P threads"
    )
