"""The private servers of local runs that go on right now, on this machine and of this user."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
            for path in Path(place).glob(f"{server.DIRECTORY_PREFIX}*"):
                if _is_private(path) and server.is_up(str(path)):
                    yield str(path)


def _is_private(path: Path) -> bool:
    """Whether this is a directory of this user's own that nobody else can enter."""
    try:
        about = path.lstat()
    except OSError:
        return False
    is_own = about.st_uid == os.geteuid() and stat.S_ISDIR(about.st_mode)
    return is_own and not about.st_mode & 0o077


def _runs(broker_url: str) -> list[RunningRun]:
    import redis

    from clinvk.store.store import Store

    store = Store.connect(broker_url, ANSWER_SECONDS)
    with contextlib.closing(store), contextlib.suppress(redis.RedisError):
        return [RunningRun(run.run_id, run.created_ms, broker_url) for run in store.runs(10)]
    return []
