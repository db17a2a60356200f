"""The process of a worker: what it loads, and its run from start to end.

The same as `celery -A workers.app worker -Q … -c …`, without the time that Celery's command line
takes to load, and without the events that Celery's workers exchange.
"""

from __future__ import annotations

import argparse
import socket
from importlib import import_module

from celery.app import backends

from clinvk.backends import packaged_names
from clinvk.store.connection import driver
from clinvk.store.scripts import operation
from workers.app import app

IMPORTED_LATE = (
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.control",
    "clinvk.broker.consumer",
    "clinvk.broker.pool",
    "workers.bootstep",
)
"""Modules that Celery imports only as it starts a worker, by their names."""
OPERATIONS = ("admit", "aggregate", "announce", "claim", "finish", "reap", "renew")
"""Those of the store that each worker calls."""


def load() -> None:
    """Import now what a worker imports later, so that processes forked from this one have it."""
    app.loader.import_default_modules()
    app.finalize()
    for module in IMPORTED_LATE:
        import_module(module)
    _ = app.Worker, app.control, app.events, app.log


def look_up() -> None:
    """Read and find out now, for the same reason, what a worker finds out once."""
    backends.by_url(app.conf.result_backend, app.loader)
    packaged_names()
    driver()
    for name in OPERATIONS:
        operation(name)


def run(options: argparse.Namespace) -> int:
    """Run a worker until it is told to stop; returns its exit code.

    `options` are those of `python -m workers`.
    """
    worker = app.Worker(
        hostname=f"{options.name}@{socket.gethostname()}",
        queues=options.queues,
        concurrency=options.concurrency,
        loglevel=options.loglevel,
        quiet=True,  # no banner, which asks for much that it shows
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
