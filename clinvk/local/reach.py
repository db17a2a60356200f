"""Reach workers: those of a private server, or those of the configured broker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from clinvk.core.worker_config import WorkerConfig
from clinvk.local import start
from clinvk.local.server import bundled_server
from clinvk.output.streams import note
from clinvk.privacy import seclude
from clinvk.runs.client import Client


def served(broker_url: str) -> set[str]:
    """Return the queues that the live workers of a broker serve.

    Raises:
        BrokerError: the broker cannot be reached.
    """
    from clinvk.runs.celery_client import CeleryClient

    with closing(CeleryClient(broker_url)) as client:
        client.check_server()
        return client.served()


@contextmanager
def connect(
    broker_url: str | None,
    *,
    worker: WorkerConfig,
    queues: Sequence[str],
    slots: int,
    server: str | None,
) -> Iterator[Client]:
    """Give a client of the broker; without a broker, of a private server with its own workers.

    `worker`, `queues`, `slots` and `server` describe the private server and its workers; with a
    broker they are not used.

    Raises:
        BrokerError: the broker cannot be reached, or the private server cannot be started.
    """
    if broker_url is None:
        with start.start(worker, queues, slots, server) as private:
            # Imported while server and worker come up.
            from clinvk.runs.celery_client import CeleryClient

            private.wait_for_server()
            with closing(CeleryClient(private.broker_url, private)) as client:
                if private.server_program != bundled_server():
                    client.check_server()
                yield client
    else:
        seclude()
        from clinvk.runs.celery_client import CeleryClient

        with closing(CeleryClient(broker_url)) as client:
            for warning in client.check_server():
                note(f"warning: {warning}")
            yield client
