"""What the tasks of each backend may use on this machine, and what of it cannot be enforced."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from clinvk.backends.base import Command, ProcessResult
from clinvk.core.worker_config import WorkerConfig
from workers.execution.cgroups import Limits, TaskGroup, TaskGroups

EVERY_BACKEND = "*"


class TaskLimits:
    """The limits of the configuration (`WorkerConfig.task_limits`).

    `make_groups` is called where there is any.
    """

    def __init__(
        self, config: WorkerConfig, make_groups: Callable[[], TaskGroups] = TaskGroups
    ) -> None:
        self._limits = config.task_limits
        self._groups = make_groups() if any(self._limits.values()) else None

    def of(self, backend: str) -> Limits:
        """Return the limits of a backend's tasks: its own before those of all."""
        every, own = (self._limits.get(name, {}) for name in (EVERY_BACKEND, backend))
        return Limits(**{**every, **own})

    def missing(self) -> list[str]:
        """Return a line for each configured limit that cannot be enforced here."""
        names = sorted({name for limits in self._limits.values() for name in limits})
        return [_unenforced(name) for name in names if self._is_missing(name)]

    def warnings(self, backend: str) -> tuple[str, ...]:
        """Return a line for each limit of a backend's tasks that cannot be enforced here."""
        return tuple(_unenforced(n) for n, _ in self.of(backend).items() if self._is_missing(n))

    def _is_missing(self, name: str) -> bool:
        return self._groups is not None and name in self._groups.missing

    @contextlib.contextmanager
    def limited(
        self, backend: str, command: Command, inherited: Mapping[bytes, bytes]
    ) -> Iterator[LimitedCommand]:
        """Give a command so that it starts within its limits; what it leaves there is ended.

        Raises:
            OSError: it cannot be, or there is no such program.
        """
        if self._groups is None:
            yield LimitedCommand(command, None)
            return
        with self._groups.make(self.of(backend)) as group:
            if group is not None:
                _check_program(command, inherited)  # or a shell would say it, and not the system
                command = replace(command, argv=group.entering(command.argv))
            yield LimitedCommand(command, group)


class LimitedCommand:
    """A command as it is started within its limits."""

    def __init__(self, command: Command, group: TaskGroup | None) -> None:
        self.command = command
        self._group = group

    def finished(self, process: ProcessResult) -> ProcessResult:
        """End what is left of it; returns what came of it, with the limit that it reached."""
        if self._group is None:
            return process
        reached = self._group.exceeded()
        left = self._group.close() and process.stopped_by is None
        return replace(process, limit_reached=reached, orphans=process.orphans or left)


def _unenforced(name: str) -> str:
    return (
        f"{name} is not enforced: no cgroup controller for it is at hand "
        "(as root, or in a systemd unit with Delegate=yes, there may be one)"
    )


def _check_program(command: Command, inherited: Mapping[bytes, bytes]) -> None:
    path = command.env.get("PATH") or os.fsdecode(inherited.get(b"PATH", b"")) or os.defpath
    program = command.argv[0]
    if shutil.which(program, path=path) is None:
        raise FileNotFoundError(2, os.strerror(2), program)
