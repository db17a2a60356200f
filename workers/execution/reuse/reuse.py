"""Which result a task takes of an earlier run, and which results are kept for later ones."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace

import redis

from clinvk.core.error_log import ErrorLog
from clinvk.core.errors import WireError
from clinvk.core.spec import TaskResult, TaskStatus
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.types import Lease
from workers.execution.environment import Environments
from workers.execution.preparation import AcceptedTask, PreparedTask
from workers.execution.reuse.cli_version import CliVersions
from workers.execution.reuse.directory_state import (
    DirectoryState,
    DirectoryStates,
    UnknownStateError,
)
from workers.execution.reuse.fingerprint import fingerprint
from workers.execution.reuse.index import Index
from workers.execution.worktrees.worktrees import wants_worktree
from workers.observers import TaskEnded, TaskHeld, TaskReleased, WorkerEvent

logger = logging.getLogger(__name__)

LARGEST_BYTES = 32 << 20
"""A result over this is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was found for a task: a result, or what it is to be kept under; or why neither."""

    found: TaskResult | None = None
    fingerprint: str | None = None
    state: DirectoryState | None = None
    directory: str = ""
    warning: str | None = None


class Reuse:
    """Finds results, and as an observer keeps those of tasks that have ended."""

    def __init__(self, config: WorkerConfig, index: Index, environments: Environments) -> None:
        self._index = index
        self._environments = environments
        self._versions = CliVersions()
        self._states = DirectoryStates(config.reuse_ignores)
        self._pending: dict[Lease, str] = {}
        self._lock = threading.Lock()
        self._errors = ErrorLog(logger)

    def look(self, task: AcceptedTask, lease: Lease) -> Look:
        """Look for a result of a task that is about to be run: its directory is as it will find it.

        Results of the same run do not count: who asks twice in one run wants two answers.
        """
        environment = self._environments.of(task.backend)
        version = self._versions.of(task.backend, environment)
        if version is None:
            return Look(warning=f"not reused: the version of {task.spec.backend} is not known")
        if task.directory is None:
            return Look(warning="not reused: a task that names a repository always runs")
        directory = task.directory.real_path
        try:
            state: DirectoryState | None = self._states.of(task.spec, directory)
        except UnknownStateError as error:
            if not task.spec.reuse_anywhere or wants_worktree(task.spec):
                return Look(warning=f"not reused: {_unknown(error, task)}")
            state = None
        variables = self._environments.decoded(task.backend)
        known = fingerprint(task, version, state or directory, variables, self._versions.content)
        try:
            found = taken(self._index.find(known), lease)
        except (OSError, redis.RedisError) as error:
            self._errors.log("results of earlier runs", error)
            return Look(warning=f"not reused: earlier results cannot be read: {error}")
        return Look(found=found, fingerprint=known, state=state, directory=directory)

    def is_as_seen(self, look: Look, task: PreparedTask) -> bool:
        """Whether a task begins with the files that its fingerprint was made of."""
        if task.worktree is None or look.state is None:
            return True
        return self._states.is_of(task.worktree, look.state, look.directory)

    def keep_when_recorded(self, lease: Lease, fingerprint: str) -> None:
        """Keep the result of a task once it is recorded."""
        with self._lock:
            self._pending[lease] = fingerprint

    def saw(self, event: WorkerEvent) -> None:
        """Keep a result that was recorded."""
        match event:
            case TaskEnded(lease, result):
                with self._lock:
                    known = self._pending.pop(lease, None)
                if known is not None and result.status is TaskStatus.OK:
                    wire = offered(result, lease).to_wire()
                    if len(wire) <= LARGEST_BYTES:
                        self._index.keep(known, wire)
            case TaskHeld(lease) | TaskReleased(lease):
                with self._lock:
                    self._pending.pop(lease, None)


def _unknown(error: UnknownStateError, task: AcceptedTask) -> str:
    return (
        f"the state of {task.workdir or 'its directory'} is not known ({error}); reuse: true in "
        "the task says that it does not matter"
    )


def offered(result: TaskResult, lease: Lease) -> TaskResult:
    """Return a result as later runs may take it: without what was only true of its execution."""
    return replace(
        result,
        reused=f"{lease.run}/{lease.index}",
        duration_seconds=0.0,
        attempts=1,
        worker=None,
        session_id=None,
        usage=None,
        cost_usd=None,
        cost_source=None,
        waited_seconds=None,
        rejections=0,
        tried=[],
        start_time=None,
        end_time=None,
    )


def taken(wire: bytes | None, lease: Lease) -> TaskResult | None:
    """Decode a result for the task of a lease; None where there is none, or one of the same run."""
    if wire is None:
        return None
    try:
        found = TaskResult.from_wire(wire)
    except WireError:
        return None
    if found.status is not TaskStatus.OK or found.reused is None or found.output_blob is not None:
        return None
    run, slash, index = found.reused.rpartition("/")
    if not slash or not index.isdigit() or run == lease.run:
        return None
    return replace(offered(found, lease), reused=found.reused, index=lease.index)
