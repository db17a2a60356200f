"""A run whose processes were killed: what is left of it ends, and what was in flight runs again."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING

from clinvk.broker.dispatcher import Dispatcher
from clinvk.core.errors import WireError
from clinvk.local import budgets, server
from clinvk.store.leases import REAP_LIMIT
from workers.execution import process_tree, sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import psutil

    from clinvk.local.records import Records
    from clinvk.store.store import Store

WORKERS_END_SECONDS = 15.0
"""How long workers whose supervisor was killed have to end, and to record their last results."""
GRACE_SECONDS = 5.0
ROUNDS = 10
"""How often to look again: a process may start another while it is being ended."""
POLL_SECONDS = 0.05


def end_what_is_left(run: str, socket_directory: str) -> None:
    """End all processes of a run of which no supervisor is left, and remove their directory.

    The commands of its tasks are found by the tag in their environment, its workers and its server
    by the directory in their command line. One that has cleared its environment and left its
    parents is not found.
    """
    give_up_at = time.monotonic() + WORKERS_END_SECONDS
    while _find(lambda process: _is_worker(process, socket_directory)):
        if time.monotonic() > give_up_at:
            break
        time.sleep(POLL_SECONDS)
    for _ in range(ROUNDS):
        left = _find(lambda process: _is_of(process, run, socket_directory))
        if not left:
            break
        _end(left)
    server.end_and_remove(socket_directory)


def remove_sessions(run: str, state_dir: str) -> None:
    """Remove what CLIs have kept for a run that nobody will go on with."""
    sessions.remove_run(sessions.directory_of(state_dir), run)


def _end(processes: Sequence[psutil.Process]) -> None:
    """Send TERM, and KILL to what does not end. A zombie has ended, whoever is to reap it."""
    import psutil

    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        give_up_at = time.monotonic() + GRACE_SECONDS
        while any(map(_lives, processes)) and time.monotonic() < give_up_at:
            time.sleep(POLL_SECONDS)


def _lives(process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _find(condition: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if condition(process) and _lives(process):
                found.append(process)
    return found


def _is_worker(process: psutil.Process, socket_directory: str) -> bool:
    words = process.cmdline()
    return "clinvk.local.supervisor" in words and words[-1] == socket_directory


def _is_of(process: psutil.Process, run: str, socket_directory: str) -> bool:
    if any(socket_directory in word for word in process.cmdline()):
        return True
    return (process_tree.tag_of(process, process_tree.TASK_TAG) or "").startswith(f"{run}:")


def requeue(store: Store, run: str, records: Records, limits: Mapping[str, int]) -> None:
    """Make pending again what was in flight, or end it as lost, as its attempts allow.

    `limits` are those of a day from now on: what other runs have used since counts before any task
    is started.

    Raises:
        redis.RedisError: the server does not answer.
    """
    from clinvk.broker.message import maker
    from workers.app import app

    has_own = False
    with contextlib.suppress(WireError):  # the reaper removes a run with such a record
        has_own = (summary := store.summary(run)) is not None and summary.has_budget
    budgets.tell(store, records, run, limits, has_own=has_own)
    dispatcher = Dispatcher(maker(app), store)
    for _ in range(store.disown(run) // REAP_LIMIT + 1):
        dispatcher.reap()
    store.aggregate(run)  # where only that was missing
