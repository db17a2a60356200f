"""Find and end processes that left their parent: the part of process control that is per system.

The coding CLIs put their tools into sessions of their own (setsid), so a signal to the process
group does not reach them. Two things find them: a tag in the environment, which children
inherit, and on Linux the subreaper attribute, by which orphans become children of the worker
instead of init (prctl(2), PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Iterable, Set
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

TASK_TAG = "CLINVK_TASK"
"""The environment variable with the task's lease, in every process that a task starts."""
OWNER_TAG = "CLINVK_OWNER"
"""The same with the owner of the lease, which is the worker process."""
PR_SET_CHILD_SUBREAPER = 36
PAGE_BYTES = 1 << 12

_subreaper = False
_exempt: set[int] = set()


def become_subreaper() -> bool:
    """Adopt orphaned descendants from now on. Returns whether this system can (Linux)."""
    global _subreaper
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        _subreaper = bool(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    return _subreaper


def is_subreaper() -> bool:
    """Whether this process adopts its orphaned descendants."""
    return _subreaper


def exempt(child: int) -> None:
    """Never count this child as an orphan: the main thread started it itself."""
    _exempt.add(child)


def orphans_alive(except_children: Set[int] = frozenset()) -> bool:
    """Whether orphans live among our children; reaps those that have ended.

    Orphans become children of the main thread, while tasks are started from other threads. What
    the main thread started itself is named in `except_children`, or by `exempt`. Where the system
    cannot tell, the answer is yes.
    """
    known = _exempt | except_children
    while True:
        children = _children() if _subreaper else None
        if children is None:
            return True
        adopted = [child for child in children if child not in known]
        alive = [_alive(child) for child in adopted]  # each look reaps
        if any(alive) or not adopted:
            return bool(adopted)
        # What has just ended may have left orphans of its own: look again.


def _alive(child: int) -> bool:
    """Whether a child runs; reaps it if it has ended."""
    try:
        return os.waitpid(child, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def adopted() -> list[psutil.Process] | None:
    """Return the orphans that we have adopted; None where this system does not let us."""
    children = _children() if _subreaper else None
    if children is None:
        return None
    import psutil

    found = []
    for child in children:
        if child not in _exempt and _alive(child):
            with contextlib.suppress(psutil.Error):
                found.append(psutil.Process(child))
    return found


def with_descendants(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that is below it."""
    import psutil

    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return [process]


def tag_of(process: psutil.Process, name: str) -> str | None:
    """Return a process's tag; None where it has none, or does not let it be read."""
    import psutil

    try:
        return process.environ().get(name)
    except psutil.Error:
        return None


def now_ticks() -> int:
    """Return the time in the kernel's ticks since the machine was started; 0 where unknown."""
    if sys.platform != "linux":
        return 0
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _ticks_per_second())


def start_ticks(pid: int) -> int:
    """Return when a process was started, on the clock of `now_ticks`; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123
            return int(stat.read().rpartition(b")")[2].split()[19])
    except OSError:
        return 0


@cache
def _ticks_per_second() -> int:
    return os.sysconf("SC_CLK_TCK")


def signal_group(group: int, number: int) -> bool:
    """Signal a process group; False if it has no process left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS: only zombies are left in the group
        return False
    return True


def tagged(name: str, value: str) -> list[psutil.Process]:
    """Return all processes that have this tag in their environment."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(name) == value:
                found.append(process)
    return found


def end(processes: Iterable[psutil.Process], grace_seconds: float) -> None:
    """Send TERM, wait up to `grace_seconds`, then send KILL to what is left and wait for that."""
    import psutil

    alive = list(processes)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(alive, timeout=grace_seconds)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=grace_seconds)


def end_descendants(grace_seconds: float, except_children: Set[int] = frozenset()) -> None:
    """End all that is below this process, but for the exempt; for when no task runs any more."""
    known = _exempt | except_children
    for _ in range(10):  # a process may start another while it is being ended
        left = descendants(known)
        if not left:
            return
        end(left, grace_seconds)
        orphans_alive(except_children)  # reaps


def descendants(except_children: Set[int]) -> list[psutil.Process]:
    """Return all descendants of this process, except these children and their descendants."""
    children = _children()
    if children is not None and not set(children) - except_children:
        return []
    import psutil

    found = []
    for child in psutil.Process().children():
        if child.pid not in except_children:
            with contextlib.suppress(psutil.Error):
                found += [child, *child.children(recursive=True)]
    return found


def _children() -> list[int] | None:
    """List the children of the main thread, adopted ones included; None if unknown."""
    fd = _children_file(os.getpid())
    if fd is None:
        return None
    text = b""
    while piece := os.pread(fd, PAGE_BYTES, len(text)):
        text += piece
        if len(piece) < PAGE_BYTES // 2:  # the kernel fills pages as far as whole numbers go
            break
    return [int(child) for child in text.split()]


@cache
def _children_file(pid: int) -> int | None:
    """Open the list of a process's children, once: it is read for each task."""
    try:
        return os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY)
    except OSError:  # not Linux, or a kernel without CONFIG_PROC_CHILDREN
        return None
