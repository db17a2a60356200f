"""Reach workers: those of a private server, or those of the configured broker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from clinvk.core.errors import UsageError
from clinvk.core.worker_config import WorkerConfig
from clinvk.local import start
from clinvk.local.running import RunningRun, running_runs
from clinvk.local.server import bundled_server
from clinvk.output.streams import note
from clinvk.privacy import seclude
from clinvk.runs.client import LAST, Client

if TYPE_CHECKING:
    from clinvk.config.settings import Settings
    from clinvk.runs.celery_client import CeleryClient


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


@contextmanager
def has_run(settings: Settings, broker: str | None, name: str) -> Iterator[CeleryClient]:
    """Give a client of whatever keeps the run `name`, which its `open(name)` then finds.

    Every command that takes a RUN comes through here, and asks nothing about where it is. A local
    run is found by its id, whether or not a broker is configured, unless the command line names
    one: then, and for any other id, it is a run of the fleet. `last` is the newest of both.

    Raises:
        UsageError: there is no such run, or it could only be a fleet's and no broker is configured.
        BrokerError: the broker cannot be reached.
    """
    local = None if broker else _local(name)
    url = settings.broker_url(broker)
    if url is None and local is None:
        raise UsageError(_no_run(name))
    seclude()
    from clinvk.runs.celery_client import CeleryClient

    if url is not None and (local is None or name == LAST):
        with closing(CeleryClient(url)) as client:
            client.check_server()
            if local is None or _is_newer(client, local):
                with client.reaching_broker():
                    yield client
                return
    assert local is not None
    with closing(CeleryClient(local.broker_url)) as client:
        client.ends_with_run = True
        yield client


def _local(name: str) -> RunningRun | None:
    return next((run for run in running_runs() if name in {LAST, run.run}), None)


def _no_run(name: str) -> str:
    return (
        f"no local run{'' if name == LAST else f' {name}'} goes on here, and there is no "
        "broker: use --broker URL, or set broker_url or CLINVK_BROKER_URL"
    )


def _is_newer(client: CeleryClient, local: RunningRun) -> bool:
    """Whether the broker has a run of this user that is newer than a local one."""
    try:
        return client.newest()[1] > local.created_ms
    except UsageError:
        return False
