"""The Celery application of a worker: `celery -A workers.app worker -Q clinvk.claude`."""

from __future__ import annotations

import os

from clinvk.broker.app import create_app
from clinvk.core.worker_config import BROKER_URL

app = create_app(os.environ.get(BROKER_URL))
app.conf.include = ["workers.tasks"]
# By its name: whoever only inspects the fleet with this application does not load a worker.
app.steps["worker"].add("workers.bootstep:WorkerBootstep")
