"""The Celery application of a worker: `celery -A workers.app worker -Q clinvk.claude`."""

from __future__ import annotations

import os
from typing import Any

from celery.signals import celeryd_init

from clinvk.broker.app import create_app
from clinvk.core.worker_config import BROKER_URL
from workers.liveness import node_name

app = create_app(os.environ.get(BROKER_URL))
app.conf.include = ["workers.tasks"]
# By its name: whoever only inspects the fleet with this application does not load a worker.
app.steps["worker"].add("workers.bootstep:WorkerBootstep")


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _reserve_name(instance: Any, **_: object) -> None:
    """Name a worker before anything of it uses its name, whoever starts it."""
    instance.hostname = node_name.reserve(instance.hostname, app.conf.broker_url or "")
