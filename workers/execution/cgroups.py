"""Limits of memory and processes for each task, by control groups (cgroups(7)).

A task with a limit gets a cgroup of its own, below the worker's, and its command is started in it.
So the limit is of everything that the task starts, and what is left in the group at the end is the
task's, whatever it did to its environment.

Version 2 is used where it has the controllers and the worker may make groups: as root, or in a unit
with `Delegate=yes`. There a group that has groups with controllers below it may have no processes:
the worker's own move into a group beside the tasks'. That is done only where the group has no
processes of others. Version 1, which has a hierarchy for each controller, needs root.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clinvk.core.user_paths import matching

logger = logging.getLogger(__name__)

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
PREFIX = "clinvk-task-"
WORKER = "clinvk-worker"
END_SECONDS = 2.0
"""How long a group may take to become empty, once all in it are killed."""
_ENTER = 'while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done; shift; exec "$@"'
"""A shell that joins the groups named before `--` and becomes the command after it."""
_CONTROLLERS = {"memory_bytes": "memory", "processes": "pids"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a task may use; None is no limit."""

    memory_bytes: int | None = None
    processes: int | None = None

    def items(self) -> Iterator[tuple[str, int]]:
        """Yield the limits that there are, by their names."""
        for name in _CONTROLLERS:
            if (value := getattr(self, name)) is not None:
                yield name, value


@dataclass(frozen=True, slots=True)
class _Hierarchy:
    """Where groups with some controllers are made: the directory of the worker's own group."""

    directory: Path
    version: int


class TaskGroup:
    """The groups of one task: one, or in version 1 one for each controller."""

    def __init__(self, directories: Mapping[Path, int], limits: Mapping[str, int]) -> None:
        self._directories = directories
        self._limits = limits

    def entering(self, argv: Sequence[str]) -> Sequence[str]:
        """Return a command that joins the groups before it becomes `argv`."""
        files = [str(directory / "cgroup.procs") for directory in self._directories]
        return ("/bin/sh", "-c", _ENTER, "clinvk", *files, "--", *argv)

    def exceeded(self) -> str | None:
        """Return the limit that was reached, as `name: value`; None if none was."""
        for name, value in self._limits.items():
            for directory, version in self._directories.items():
                if _count(directory, name, version):
                    return f"{name}: {value}"
        return None

    def close(self) -> bool:
        """End what is left in the groups, and remove them; returns whether there was anything."""
        found = False
        give_up_at = time.monotonic() + END_SECONDS
        for directory, version in self._directories.items():
            while left := _processes(directory):
                found = True
                _kill(directory, version, left)
                if time.monotonic() > give_up_at:
                    break
                time.sleep(0.005)
            _remove(directory, give_up_at)
        return found


class TaskGroups:
    """Makes the groups of this worker's tasks.

    Attributes:
        missing: the limits that cannot be enforced here.
    """

    def __init__(self, root: Path = ROOT, own: Path = OWN) -> None:
        self._hierarchies: dict[str, _Hierarchy] = {}
        self._numbers = itertools.count(1)
        groups = _own_groups(own)  # once: to hand a controller on may move us
        for name, controller in _CONTROLLERS.items():
            if hierarchy := _find(controller, root, groups):
                self._hierarchies[name] = hierarchy
        self.missing = frozenset(_CONTROLLERS) - set(self._hierarchies)
        for hierarchy in self._hierarchies.values():
            _remove_stale(hierarchy)

    @contextlib.contextmanager
    def make(self, limits: Limits) -> Iterator[TaskGroup | None]:
        """Give a group with those of the limits that can be enforced; None where there is none.

        Raises:
            OSError: the group cannot be made.
        """
        wanted = {name: value for name, value in limits.items() if name not in self.missing}
        if not wanted:
            yield None
            return
        directories: dict[Path, int] = {}
        group = TaskGroup(directories, wanted)
        label = f"{PREFIX}{os.getpid()}-{next(self._numbers)}"
        try:
            for name, value in wanted.items():
                hierarchy = self._hierarchies[name]
                directory = hierarchy.directory / label
                directory.mkdir(exist_ok=True)
                directories[directory] = hierarchy.version
                _set_limit(directory, name, value, hierarchy.version)
            yield group
        finally:
            group.close()


def _find(controller: str, root: Path, groups: Mapping[str, str]) -> _Hierarchy | None:
    """Find the worker's own group for a controller, if groups can be made below it."""
    for base in (root, root / "unified"):
        directory = base / groups.get("", "").lstrip("/")
        if controller in _words(directory / "cgroup.controllers") and _delegated(
            directory, controller, is_root=directory == base
        ):
            return _Hierarchy(directory, 2)
    if controller in groups:
        directory = root / controller / groups[controller].lstrip("/")
        if os.access(directory, os.W_OK):
            return _Hierarchy(directory, 1)
    return None


def _own_groups(own: Path) -> dict[str, str]:
    """Return our groups by controller; that of version 2 has an empty name.

    A supervisor that starts another worker is in the group that it moved to with the first.
    """
    groups = {}
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            groups.update(dict.fromkeys(controllers.split(","), path.removesuffix(f"/{WORKER}")))
    return groups


def _delegated(directory: Path, controller: str, *, is_root: bool) -> bool:
    """Hand a controller of version 2 on to groups below; returns whether that is possible."""
    control = directory / "cgroup.subtree_control"
    try:
        if controller in _words(control):
            return os.access(directory, os.W_OK)
        if not is_root:
            _move_out_of(directory)
        control.write_text(f"+{controller}")
    except OSError as error:
        logger.debug("%s: %s", control, error)
        return False
    return controller in _words(control) or not control.is_file()


def _move_out_of(directory: Path) -> None:
    """Move the worker and its supervisor into a group of their own.

    Raises:
        PermissionError: other processes are in the group.
    """
    ours = {os.getpid(), os.getppid()}
    pids = _processes(directory)
    if set(pids) - ours:
        raise PermissionError(f"{directory} has processes that are not the worker's")
    leaf = directory / WORKER
    leaf.mkdir(exist_ok=True)
    for pid in pids:
        (leaf / "cgroup.procs").write_text(str(pid))


def _set_limit(directory: Path, name: str, value: int, version: int) -> None:
    if name == "processes":
        (directory / "pids.max").write_text(str(value))
    elif version == 2:
        (directory / "memory.max").write_text(str(value))
        with contextlib.suppress(OSError):  # a kernel without swap
            (directory / "memory.swap.max").write_text("0")
    else:
        (directory / "memory.limit_in_bytes").write_text(str(value))
        with contextlib.suppress(OSError):  # a kernel without swap
            (directory / "memory.memsw.limit_in_bytes").write_text(str(value))


def _count(directory: Path, name: str, version: int) -> int:
    """Return how often a limit was reached in such a way that something failed."""
    if name == "processes":
        return _fields(directory / "pids.events").get("max", 0)
    file = "memory.events" if version == 2 else "memory.oom_control"
    return _fields(directory / file).get("oom_kill", 0)


def _fields(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {name: int(value) for name, value in map(str.split, lines)}


def _words(path: Path) -> Sequence[str]:
    try:
        return path.read_text().split()
    except OSError:
        return ()


def _processes(directory: Path) -> list[int]:
    return [int(pid) for pid in _words(directory / "cgroup.procs")]


def _kill(directory: Path, version: int, pids: Sequence[int]) -> None:
    if version == 2:
        with contextlib.suppress(OSError):  # Linux before 5.14
            (directory / "cgroup.kill").write_text("1")
            return
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _remove(directory: Path, give_up_at: float) -> None:
    while True:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:  # busy, until the last process is gone
            if time.monotonic() > give_up_at:
                logger.warning("%s cannot be removed: %s", directory, error)
                return
            time.sleep(0.005)
        else:
            return


def _remove_stale(hierarchy: _Hierarchy) -> None:
    """End and remove the groups of workers that were killed."""
    for directory in matching(hierarchy.directory, f"{PREFIX}*"):
        worker = directory.name.removeprefix(PREFIX).partition("-")[0]
        if not Path(f"/proc/{worker}").exists():
            TaskGroup({directory: hierarchy.version}, {}).close()
