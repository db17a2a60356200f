"""Workers as processes: each has a name of its own, by which the fleet and Celery know it."""

from __future__ import annotations

import pytest

from clinvk.broker.app import create_app
from clinvk.broker.message import template
from clinvk.core.spec import ErrorKind, RunOptions, TaskSpec
from clinvk.core.worker_config import BROKER_URL, WORKER_CONFIG, WorkerConfig
from tests import harness
from tests.worker_processes import OURS, Workers, workers

__all__ = ["workers"]

pytestmark = pytest.mark.usefixtures("temporary")


class Misplaced(TaskSpec):
    """A task in the queue of another backend, as whoever reaches the broker can make one."""

    @property
    def queue(self) -> str:
        return "clinvk.echo"


def test_a_worker_runs_no_backend_whose_queue_it_does_not_serve(workers: Workers) -> None:
    workers.env[WORKER_CONFIG] = WorkerConfig(backends={"sh": {"command": ["sh"]}}).dump()
    workers.start(OURS)
    run = "20260102-030405-abcdef01"
    specs = [Misplaced(backend="sh", prompt="echo ran"), TaskSpec(backend="echo", prompt="hello")]
    message = template(create_app(workers.env[BROKER_URL]), run)
    workers.store.submit(run, specs, RunOptions(), message=message)
    ended = workers.clinvk("wait", run)
    assert ended.status == 1, ended.stderr
    forged, genuine = workers.store.results(run, [0, 1])
    assert forged is not None
    assert (forged.error_kind, forged.output) == (ErrorKind.REFUSED, None)
    assert forged.error == "the task came through the queue clinvk.echo, which is none of its own"
    assert genuine is not None
    assert genuine.output == "hello"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('{"nonsense": 1}', "CLINVK_WORKER_CONFIG: "),
        ('{"policy_file": "/nowhere.yaml"}', "/nowhere.yaml: cannot be read: "),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(broker_url: str, config: str, said: str) -> None:
    env = {BROKER_URL: broker_url, WORKER_CONFIG: config}
    ended = harness.clinvk("--queues", "clinvk.echo", env=env, command=OURS[:3])
    assert ended.status == 3
    assert ended.stderr.splitlines()[-1].startswith(said)
    assert "Traceback" not in ended.stderr
