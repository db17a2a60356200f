"""What there is to complete on a command line; nothing where it cannot be found out at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import wraps

from clinvk.config import settings
from clinvk.config.settings import Settings
from clinvk.core.spec import RunSummary, backend_of
from clinvk.local.records import Records
from clinvk.local.running import running_runs
from clinvk.runs.client import LAST
from clinvk.store.store import Store

ANSWER_SECONDS = 1.0
NEWEST = 50


def _or_nothing(
    find: Callable[..., dict[str, str]],
) -> Callable[..., dict[str, str]]:
    """Return nothing where something goes wrong: a shell would print an error into its line."""

    @wraps(find)
    def found(*arguments: str | None) -> dict[str, str]:
        try:
            return find(*arguments)
        except Exception:  # noqa: BLE001
            return {}

    return found


@_or_nothing
def runs(config: str | None, broker: str | None) -> dict[str, str]:
    """Return the ids of runs, newest first, each with what kind of run it is and how it stands."""
    loaded = settings.load(config)
    found = {LAST: "the newest run"} | {run.run: "local" for run in running_runs()}
    for summary in Records(loaded.runs_dir).newest(NEWEST):
        found[summary.run.run_id] = f"local, {_standing(summary.run)}"
    with _store(loaded, broker) as store:
        for run in store.runs(NEWEST) if store is not None else ():
            found[run.run_id] = _standing(run)
    return found


def _standing(run: RunSummary) -> str:
    return f"{run.kind}, {run.state}, {run.ended} of {run.total} ended"


@_or_nothing
def queues(config: str | None, broker: str | None) -> dict[str, str]:
    """Return the names of the fleet's queues, each with how many tasks wait in it."""
    with _store(settings.load(config), broker) as store:
        found = store.queues() if store is not None else ()
        return {backend_of(queue.name): f"{queue.waiting} waiting" for queue in found}


@_or_nothing
def backends(config: str | None) -> dict[str, str]:
    """Return the names of the enabled backends."""
    return {name: "" for name, enabled in settings.load(config).backends.items() if enabled}


@contextmanager
def _store(loaded: Settings, broker: str | None) -> Iterator[Store | None]:
    """Give the store of the fleet; None without one."""
    if (url := loaded.broker_url(broker)) is None:
        yield None
        return
    with closing(Store.connect(url, ANSWER_SECONDS)) as store:
        yield store
