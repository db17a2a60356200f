"""The commands that look at a fleet and steer it: runs, queues, workers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from clinvk.config.models import rate_limits
from clinvk.core.errors import UsageError
from clinvk.core.spec import RunOptions, queue_of
from clinvk.output import json_document, progress, tables
from clinvk.output.presenter import Screen, View
from clinvk.runs import follow
from clinvk.runs.report import EXIT_OK, EXIT_TASK_FAILED

if TYPE_CHECKING:
    from clinvk.config.settings import Settings
    from clinvk.runs.celery_client import CeleryClient


@contextmanager
def fleet(settings: Settings, broker: str | None) -> Iterator[CeleryClient]:
    """Give a client of the configured broker.

    Raises:
        UsageError: none is configured.
        BrokerError: it cannot be reached.
    """
    url = broker_url(settings, broker)
    from clinvk.runs.celery_client import CeleryClient

    with closing(CeleryClient(url)) as client:
        client.ping()
        with client.reaching_broker():
            yield client


def broker_url(settings: Settings, broker: str | None) -> str:
    """Return the broker's URL; commands of a fleet need one."""
    url = settings.broker_url(broker)
    if url is None:
        raise UsageError("no broker: give --broker URL, or set broker_url or CLINVK_BROKER_URL")
    return url


# Workers.


def workers(client: CeleryClient, *, as_json: bool) -> int:
    """List the workers that are there."""
    found = client.store.workers()
    return _print(found, tables.workers(found), as_json=as_json)


# Queues.


def queues(client: CeleryClient, *, as_json: bool) -> int:
    """List the queues: limits, what runs and what waits."""
    found = client.store.queues()
    return _print(tables.queues_document(found), tables.queues(found), as_json=as_json)


def set_limits(
    client: CeleryClient, name: str, max_concurrency: int | None, rate: str | None
) -> int:
    """Set limits of a queue; 0 or "none" takes one away."""
    if max_concurrency is None and rate is None:
        raise UsageError("nothing to set: give --max-concurrency or --rate")
    limits: dict[str, Any] = {}
    if max_concurrency is not None:
        limits["max_concurrency"] = max_concurrency or None
    if rate is not None:
        limits |= {"rate": None, "interval_ms": None} if rate == "none" else _rate(rate)
    client.store.limit(queue_of(name), **limits)
    client.store.admit()
    return queues(client, as_json=False)


def _rate(rate: str) -> dict[str, Any]:
    try:
        return rate_limits(rate)
    except ValueError as error:
        raise UsageError(f'--rate: {error}, or "none" (got "{rate}")') from error


def pause(client: CeleryClient, name: str, *, paused: bool) -> int:
    """Hand out nothing more of a queue, or go on; what runs is not touched."""
    client.store.limit(queue_of(name), paused=1 if paused else None)
    client.store.admit()
    return EXIT_OK


# Runs.


def runs(client: CeleryClient, limit: int, *, as_json: bool) -> int:
    """List the newest runs."""
    found = client.store.runs(limit)
    return _print([json_document.status(run) for run in found], tables.runs(found), as_json=as_json)


def status(client: CeleryClient, run: str, *, as_json: bool) -> int:
    """Tell how far a run is."""
    summary = client.open(run).summary()
    values = View().of(summary.kind).form.status(summary)
    return _print(values, tables.status(values), as_json=as_json)


def attach(client: CeleryClient, run_id: str, view: View) -> int:
    """Follow a run from its beginning, as if never detached."""
    run = client.open(run_id)
    summary = run.summary()
    specs = run.specs()
    options = RunOptions(max_parallel=summary.max_parallel, fail_fast=summary.fail_fast)
    screen = Screen(view.of(summary.kind), specs, options)
    with follow.Interruption(progress.note) as interruption:
        screen.header()
        return screen.show(run, specs, interruption)


def results(client: CeleryClient, run_id: str, *, as_json: bool, only_failed: bool) -> int:
    """Print the results that there are, page by page."""
    run = client.open(run_id)
    summary = run.summary()
    rows = (
        (spec, result)
        for spec, result in run.results(summary)
        if not only_failed or result.error_kind is not None
    )
    form = View().of(summary.kind).form
    progress.Output(sys.stdout).write_all(form.results(summary, rows, as_json=as_json))
    return EXIT_OK


def wait(client: CeleryClient, run_id: str) -> int:
    """Wait for the end of a run; the exit code is the run's."""
    run = client.open(run_id)
    for event in run.events():
        if event.kind == "ended":
            break
    summary = run.summary()
    return EXIT_OK if summary.ok == summary.total else EXIT_TASK_FAILED


def cancel(client: CeleryClient, run_id: str) -> int:
    """Cancel a run: nothing of it starts any more, and what runs is stopped."""
    run = client.open(run_id)
    run.cancel("canceled")
    summary = run.summary()
    state = "is over already" if summary.cancel_reason is None else "is canceled"
    progress.Output(sys.stdout).write(f"{run_id} {state}\n")
    return EXIT_OK


def _print(value: Any, lines: Iterator[str], *, as_json: bool) -> int:
    output = progress.Output(sys.stdout)
    if as_json:
        output.write(json_document.dump(value))
    else:
        output.write("".join(line + "\n" for line in lines))
    return EXIT_OK
