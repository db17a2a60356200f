"""What a task leaves running: whose it is, and its end.

An orphan is its task's by the tag in its environment. One that cleared its environment, or does not
let it be read, has no tag: it is of one of the tasks that ran when it began. So it is ended once
none of those runs any more. A process that never left its parents is found by its group.

Where this process adopts orphans (`process_tree.become_subreaper`), they are all among its
children. Elsewhere they are looked for in the whole process table, by their tags, and those without
one are not found.

What replaces itself by a new process again and again, without a tag, begins anew each time. On a
worker that always runs some older task it lives until that one ends, or the worker does. A cgroup
of the task's own (`cgroups`) or a sandbox knows better.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from workers.execution import process_tree
from workers.execution.process_tree import TASK_TAG, signal_group

if TYPE_CHECKING:
    import psutil

GRACE_SECONDS = 2.0
"""Between TERM and KILL, for what a command left running when it ended by itself."""
CLEAR_LOOKS = 2
"""How many looks for orphans must find nothing: while one goes through them, a daemon may start the
process that replaces it, and end."""

_lock = threading.Lock()
_running: dict[str, int] = {}
"""The tasks that run in this process, by their tags, and when each was started, in ticks."""
_ending: set[str] = set()
"""The tasks that have just ended, while their orphans are being ended."""
_left: set[tuple[int, int]] = set()
"""Orphans, each with its start, that were left because they may be of a task that still runs."""


@contextlib.contextmanager
def running(tag: str) -> Iterator[None]:
    """Note that a task runs: entered before its process is started, left when that has ended."""
    with _lock:
        _running[tag] = process_tree.now_ticks()
    try:
        yield
    finally:
        with _lock:
            _running.pop(tag, None)


def end(group: int, tag: str) -> bool:
    """End what a task left behind, in its group or elsewhere; returns whether it did."""
    with _lock:
        _running.pop(tag, None)
        _ending.add(tag)
    try:
        return _end(group, tag)
    finally:
        with _lock:
            _ending.discard(tag)


def _end(group: int, tag: str) -> bool:
    in_group = found = signal_group(group, signal.SIGTERM)
    clear = 0
    while clear < CLEAR_LOOKS and (in_group or process_tree.orphans_alive()):
        escaped, is_its_own = _escaped(tag)
        process_tree.end(escaped, GRACE_SECONDS)
        found = found or is_its_own
        clear = 0 if escaped else clear + 1
    if found:
        _end_group(group)
        process_tree.orphans_alive()
    return found


def _end_group(group: int) -> None:
    """Send KILL to what is left of a group, and wait until it is gone."""
    give_up_at = time.monotonic() + GRACE_SECONDS
    while signal_group(group, signal.SIGKILL) and time.monotonic() < give_up_at:
        process_tree.orphans_alive()  # a zombie counts until it is reaped
        time.sleep(0.005)


def _escaped(tag: str) -> tuple[list[psutil.Process], bool]:
    """Return the orphans to end now that this task has ended, and whether any is surely its own."""
    adopted = process_tree.adopted()
    if adopted is None:
        tagged = process_tree.tagged(TASK_TAG, tag)
        return tagged, bool(tagged)
    found, is_its_own = [], False
    for orphan in adopted:
        ends, owns = _verdict(orphan, tag)
        is_its_own = is_its_own or owns
        if ends:
            found += process_tree.with_descendants(orphan)
    return found, is_its_own


def _verdict(orphan: psutil.Process, tag: str) -> tuple[bool, bool]:
    """Say whether an orphan is to be ended, and whether it is surely this task's."""
    its_tag = process_tree.tag_of(orphan, TASK_TAG)
    if its_tag == tag:
        return True, True
    key = (orphan.pid, process_tree.start_ticks(orphan.pid))
    with _lock:
        if its_tag in _running or its_tag in _ending:
            return False, False
        may_be_anothers = any(started <= key[1] for started in _running.values())
        if may_be_anothers:
            _left.add(key)
            return False, False
        was_left = key in _left
        _left.discard(key)
    return True, not was_left
