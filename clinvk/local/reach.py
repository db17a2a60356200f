"""Reach workers: those of a private server, or those of the configured broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clinvk.core.errors import BrokerError, UsageError, WireError
from clinvk.core.requirements import NOTHING, Requirements
from clinvk.core.spec import backend_of, queue_of
from clinvk.core.worker_config import WorkerConfig
from clinvk.local import requirements, start
from clinvk.local.records import INTERRUPTED, Record, Records, RunKey, Summary
from clinvk.local.running import running_runs
from clinvk.local.server import broker_url, bundled_server, find_server, is_up
from clinvk.output.streams import note
from clinvk.privacy import seclude
from clinvk.runs.client import LAST, Client, new_run_id

if TYPE_CHECKING:
    from clinvk.config.settings import Settings
    from clinvk.runs.celery_client import CeleryClient

ANSWER_SECONDS = 10.0
"""How long to wait for the server of a run that begins or ends just now."""
POLL_SECONDS = 0.02


def served(broker: str, requires: Requirements = NOTHING) -> set[str]:
    """Return the queues of those live workers of a broker that have what is required of them.

    Raises:
        BrokerError: the broker cannot be reached.
    """
    from clinvk.runs.celery_client import CeleryClient

    with closing(CeleryClient(broker)) as client:
        client.check_server()
        return client.served(requires)


@contextmanager
def connect(
    broker: str | None,
    *,
    worker: WorkerConfig,
    queues: Sequence[str],
    slots: int,
    server: str | None,
    records: Records | None,
    detach: bool = False,
    key: tuple[RunKey, str] | None = None,
) -> Iterator[Client]:
    """Give a client of the broker; without a broker, of a private server with its own workers.

    The others describe the private server, its workers and the place where its run is recorded, if
    it shall be; with a broker they are not used. With `detach` it stays until the run has ended.
    `key` is what the run is found by later, with the digest of its tasks.

    Raises:
        UsageError: the run cannot be recorded, and is detached or has a key.
        BrokerError: the broker cannot be reached, or the private server cannot be started.
    """
    if broker is None:
        place = start.Place(new_run_id(), records, key=key)
        with _private(worker, place, queues, slots, server) as (client, private):
            if (reason := private.unrecorded) is not None:
                if detach or key:
                    option = "--detach" if detach else "--run-key"
                    raise UsageError(f"{option}: the run cannot be recorded: {reason} (runs.dir)")
                note(f"warning: nothing of this run stays once it has ended: {reason} (runs.dir)")
            yield client
            if detach:
                private.detach()
    else:
        seclude()
        from clinvk.runs.celery_client import CeleryClient

        with closing(CeleryClient(broker)) as client:
            for warning in client.check_server():
                note(f"warning: {warning}")
            yield client


@contextmanager
def _private(
    worker: WorkerConfig,
    place: start.Place,
    queues: Sequence[str],
    slots: int,
    program: str | None,
) -> Iterator[tuple[CeleryClient, start.LocalFleet]]:
    private: start.LocalFleet | None = None
    try:
        with start.start(worker, place, queues, slots, program) as private:
            # Imported while server and worker come up.
            from clinvk.runs.celery_client import CeleryClient

            private.wait_for_server()
            with closing(CeleryClient(private.broker_url, private)) as client:
                if private.server_program != bundled_server():
                    client.check_server()
                yield client, private
    finally:
        for warning in private.warnings() if private is not None else ():
            note(f"warning: {warning}")


@contextmanager
def has_run(
    settings: Settings, broker: str | None, name: str, reopen: Reopen | None = None
) -> Iterator[CeleryClient]:
    """Give a client of whatever keeps the run `name`, which its `open(name)` then finds.

    Every command that takes a RUN comes through here, and asks nothing about where it is. A local
    run is found by its id, whether or not a broker is configured, unless the command line names
    one: then, and for any other id, it is a run of the fleet. `last` is the newest of both.

    While a local run goes on, the client is one of the run's own server. Of one that does not, it
    reads a copy of the record (`local/reading.py`), in which what it changes is lost; a run that
    has not ended has the state `interrupted` there. To change such a run, `resumed` it. One that
    has ended is given by `reopen`, if that is given.

    Raises:
        UsageError: there is no such run, or it could only be a fleet's and no broker is configured.
        BrokerError: the broker cannot be reached, or the record not be read.
    """
    local = None if broker else find(settings, name)
    url = settings.broker_url(broker)
    if url is None and local is None:
        raise UsageError(_no_run(name))
    seclude()
    if url is not None and (local is None or name == LAST):
        from clinvk.runs.celery_client import CeleryClient

        with closing(CeleryClient(url)) as client:
            client.check_server()
            if local is None or _is_newer(client, local):
                with client.reaching_broker():
                    yield client
                return
    assert local is not None
    with _local(settings, local, reopen) as client:
        yield client


def records_of(settings: Settings) -> Records:
    """Return the records of local runs, as the configuration says."""
    return Records(
        settings.runs_dir, settings.config.runs.keep_days, settings.config.runs.keep_bytes
    )


@dataclass(frozen=True, slots=True)
class LocalRun:
    """A local run; without a `record` it is one that goes on and is not recorded."""

    run: str
    created_ms: int
    broker_url: str
    record: Record | None = None
    is_interrupted: bool = False
    incomplete: str | None = None

    @property
    def socket_directory(self) -> str:
        """Where its server listens, or did."""
        return str(Path(self.broker_url.partition("://")[2]).parent)


def find(settings: Settings, name: str) -> LocalRun | None:
    """Find a local run by its id, or the newest; None where there is none.

    Raises:
        UsageError: its record is of a newer version, or damaged.
    """
    records = records_of(settings)
    if name == LAST:
        newest = records.newest(1)
        if newest:
            return _found(records, newest[0])
    elif (record := records.find(name)) is not None:
        try:
            return _found(records, record.summary())
        except WireError as error:
            raise UsageError(str(error)) from error
        except OSError:
            return None  # it is being made, or removed
    running = next((run for run in running_runs() if name in {LAST, run.run}), None)
    if running is None:
        return None
    return LocalRun(running.run, running.created_ms, running.broker_url)


def _found(records: Records, summary: Summary) -> LocalRun:
    run, url = summary.run, broker_url(summary.socket_directory)
    return LocalRun(
        run.run_id,
        run.created_ms,
        url,
        records.of(run.run_id),
        is_interrupted=run.state == INTERRUPTED or summary.incomplete is not None,
        incomplete=summary.incomplete,
    )


Reopen = Callable[[LocalRun], AbstractContextManager["CeleryClient"]]
"""Gives a client of a local run that has ended."""


@contextmanager
def _local(settings: Settings, local: LocalRun, reopen: Reopen | None) -> Iterator[CeleryClient]:
    """Give a client of a local run: of its own server, or of one that reads its record."""
    from clinvk.runs.celery_client import CeleryClient

    client = CeleryClient(local.broker_url) if local.record is None else _reached(local)
    if client is not None:
        with closing(client):
            client.check_local = partial(_check_goes_on, local)
            yield client
    elif reopen is not None and not local.is_interrupted:
        with reopen(local) as client:
            yield client
    else:
        from clinvk.local.reading import RecordStore, reading

        assert local.record is not None
        program = find_server(settings.config.local.server)
        if local.incomplete is not None:
            note(f"warning: not all of run {local.run} is in its record: {local.incomplete}")
        with (
            reading(local.record, program) as url,
            closing(CeleryClient(url, store=RecordStore)) as client,
        ):
            yield client


def _check_goes_on(local: LocalRun) -> None:
    """Make sure that somebody still has a local run.

    Raises:
        BrokerError: nobody has.
    """
    if local.record is None or local.record.is_alive():
        return
    state = local.record.summary().run.state
    if state == INTERRUPTED:
        raise BrokerError(f"run {local.run} was interrupted: clinvk resume {local.run} goes on")
    raise BrokerError(f"run {local.run} has ended: clinvk attach {local.run} shows all of it")


def _reached(local: LocalRun) -> CeleryClient | None:
    """Return a client of a run that goes on, once its server has answered; None where it does not.

    A server that accepts a connection may be about to end; one that has answered over it stays
    until the client has read the end of the run (`RunRecorder.end`).

    Raises:
        BrokerError: it goes on, and its server does not answer.
    """
    from clinvk.runs.celery_client import CeleryClient

    assert local.record is not None
    give_up_at = time.monotonic() + ANSWER_SECONDS
    while local.record.is_alive():
        if is_up(local.socket_directory):
            client = CeleryClient(local.broker_url)
            if client.is_answered():
                return client
            client.close()
        if time.monotonic() > give_up_at:
            raise BrokerError(f"run {local.run} goes on, but its server cannot be reached")
        time.sleep(POLL_SECONDS)
    return None


@contextmanager
def resumed(
    settings: Settings,
    local: LocalRun,
    *,
    detach: bool,
    backends: Iterable[str] = (),
    max_parallel: int | None = None,
) -> Iterator[CeleryClient]:
    """Let a run go on, with its own server and workers; give a client of it.

    What was in flight is lost with its workers: it runs again, as its attempts allow. Its workers
    serve `backends` as well, and run as many tasks at once as the run may, or `max_parallel`.

    Raises:
        RunTakenError: it goes on already.
        BrokerError: its record cannot be read or written, or this machine does not have what the
            run requires.
    """
    assert local.record is not None
    summary = local.record.summary()
    queues = list(dict.fromkeys([*summary.queues, *map(queue_of, backends)]))
    settings.load_backends(backend_of(queue) for queue in queues)
    worker = requirements.checked(
        settings,
        Requirements.of(summary.run.requires),
        [[backend_of(queue)] for queue in summary.queues],
    )
    place = start.Place(local.run, records_of(settings), resumes=True)
    slots = min(max_parallel or summary.run.max_parallel, summary.run.total)
    program = settings.config.local.server
    with _private(worker, place, queues, slots, program) as (client, private):
        yield client
        if detach:
            private.detach()


def canceled(settings: Settings, local: LocalRun) -> None:
    """Cancel an interrupted run: what has no result will have none.

    Raises:
        BrokerError: its record cannot be read or written, or the run goes on by now.
    """
    assert local.record is not None
    place = start.Place(local.run, records_of(settings), resumes=True)
    with _private(settings.worker, place, (), 0, settings.config.local.server) as (client, _):
        client.dispatcher.cancel(local.run, "canceled")


def _no_run(name: str) -> str:
    return (
        f"no local run{'' if name == LAST else f' {name}'} is here, and there is no broker: use "
        "--broker URL, or set broker_url or CLINVK_BROKER_URL"
    )


def _is_newer(client: CeleryClient, local: LocalRun) -> bool:
    """Whether the broker has a run of this user that is newer than a local one."""
    try:
        return client.newest()[1] > local.created_ms
    except UsageError:
        return False
