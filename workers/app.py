"""The Celery application of a worker: `celery -A workers.app worker -Q clinvk.claude`."""

from __future__ import annotations

from typing import Any

from celery.signals import celeryd_init

from clinvk.broker.app import create_app
from clinvk.privacy import seclude
from workers import handover
from workers.liveness import node_name

seclude()  # before anything runs a task; Celery's own commands come here first
app = create_app(handover.broker_url())
app.conf.include = ["workers.tasks"]
# By its name: whoever only inspects the fleet with this application does not load a worker.
app.steps["worker"].add("workers.bootstep:WorkerBootstep")


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _reserve_name(instance: Any, **_: object) -> None:
    """Name a worker before anything of it uses its name, whoever starts it."""
    instance.hostname = node_name.reserve(instance.hostname, app.conf.broker_url or "")
