"""The private servers of local runs that go on right now, on this machine and of this user."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from clinvk.core.user_paths import is_private_directory, matching
from clinvk.local import server

ANSWER_SECONDS = 1.0
"""How long a private server may take to answer; it may be on its way down."""


@dataclass(frozen=True, slots=True)
class RunningRun:
    """A run on a private server."""

    run: str
    created_ms: int
    broker_url: str


def running_runs() -> list[RunningRun]:
    """Return the local runs that go on, newest first.

    Only directories are looked at that belong to this user and that nobody else can enter: a run
    of another user, or what pretends to be one, is none of this user's.
    """
    found = (run for directory in _directories() for run in _runs(server.broker_url(directory)))
    return sorted(found, key=lambda run: run.created_ms, reverse=True)


def _directories() -> Iterator[str]:
    for place in dict.fromkeys((tempfile.gettempdir(), "/tmp")):  # noqa: S108  (owner is checked)
        with contextlib.suppress(OSError):
            for path in matching(place, f"{server.DIRECTORY_PREFIX}*"):
                if is_private_directory(path) and server.is_up(str(path)):
                    yield str(path)


def _runs(broker_url: str) -> list[RunningRun]:
    import redis

    from clinvk.store.store import Store

    store = Store.connect(broker_url, ANSWER_SECONDS)
    with contextlib.closing(store), contextlib.suppress(redis.RedisError):
        return [RunningRun(run.run_id, run.created_ms, broker_url) for run in store.runs(10)]
    return []
