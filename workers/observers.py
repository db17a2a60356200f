"""Where behaviour attaches to a task's life: events, and the observers that see them.

Metrics, transcripts, budgets, logging: what happens *because* a task began or ended, and is no part
of running it, is an observer. It is one class with one method, and one line in
`workers/bootstep.py`, where the observers of a worker are listed:

    class Costs:
        def __init__(self) -> None:
            self.usd = 0.0

        def saw(self, event: WorkerEvent) -> None:
            if isinstance(event, TaskEnded):
                self.usd += event.result.cost_usd or 0.0

The contract:

* Each event is what this worker knows, as soon as it knows it. An event that says that something
  was done (`TaskEnded`, `TaskHeld`, `RunEnded`) comes after Redis has it. `TaskLost`,
  `TaskRetried`, `RunCanceled` and `RunEnded` come to whichever worker found out, which may be more
  than one.
* The events of one task on this worker come in this order: `TaskClaimed`, `TaskStarted` (not where
  its command could not be started), `TaskStep` and `TaskRetries` any number of times,
  `CommandEnded`, then one of `TaskEnded`, `TaskHeld` (after a last `TaskStep`, which says so) and
  `TaskReleased`, or none where its result was refused because another worker has the task now.
* `saw` is called in the thread in which it happened: the task's own, or, for what is about other
  workers and whole runs, the one that renews all leases. So it is called by several threads at
  once, must be safe for that, and return soon: a task, or every lease, waits for it. What takes
  long belongs into a thread of the observer's own.
* What `saw` raises is logged, once for each distinct error, and costs nothing else: the task, its
  result and the other observers go on.
* Observers change nothing about a task. What decides whether a task may run is the policy
  (`workers/execution/policy.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from clinvk.backends.base import StoppedBy
from clinvk.core.error_log import ErrorLog
from clinvk.core.spec import ErrorKind, TaskResult, TaskSpec
from clinvk.core.steps import Step
from clinvk.core.timestamps import rfc3339_from_ms
from clinvk.store.types import Lease

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """Something that happened, as this worker knows it."""


@dataclass(frozen=True, slots=True)
class WorkerStarted(WorkerEvent):
    """The worker takes tasks from now on; `queues` are Celery's names."""

    worker: str
    slots: int
    queues: Sequence[str]


@dataclass(frozen=True, slots=True)
class TaskClaimed(WorkerEvent):
    """The worker has a task, whose execution number `attempts` begins."""

    lease: Lease
    attempts: int


@dataclass(frozen=True, slots=True)
class TaskStarted(WorkerEvent):
    """The command of a task is being started; `spec` has the prompt as the CLI gets it."""

    lease: Lease
    spec: TaskSpec


@dataclass(frozen=True, slots=True)
class TaskStep(WorkerEvent):
    """The CLI did something, such as to call a tool; not for a task whose `steps` are off.

    Its secrets are masked. `raw` is the CLI's own line, for a task that asks for full steps; of the
    steps of one line the first has it. A line that is no step is one of the kind `event`, then.
    """

    lease: Lease
    attempt: int
    step: Step
    raw: str | None = None


@dataclass(frozen=True, slots=True)
class TaskRetries(WorkerEvent):
    """The CLI of a task met an error of this kind, and tries again itself.

    It comes for each task, also for one whose `steps` are off.
    """

    lease: Lease
    kind: ErrorKind


@dataclass(frozen=True, slots=True)
class CommandEnded(WorkerEvent):
    """Nothing of a task's command runs any more; its result, if it has one, is recorded next."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class TaskEnded(WorkerEvent):
    """The result of a task is recorded."""

    lease: Lease
    result: TaskResult


@dataclass(frozen=True, slots=True)
class TaskHeld(WorkerEvent):
    """A task was put back, to be tried again in `queue`, not before `until_ms` (server's clock).

    `result` is how this execution of it ended; the task has waited and was refused as it says. With
    `resumes` it goes on with the session of its CLI, on this worker.
    """

    lease: Lease
    result: TaskResult
    queue: str
    until_ms: int
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class TaskReleased(WorkerEvent):
    """The worker stopped a task before its end, for others to run it again.

    `reason` is "disconnected" (from Redis, for too long) or "requeued" (the worker shuts down).
    """

    lease: Lease
    reason: StoppedBy | None


@dataclass(frozen=True, slots=True)
class TaskLost(WorkerEvent):
    """The workers of a task were lost `losses` times, so that its result is now LOST."""

    lease: Lease
    reason: str
    losses: int


@dataclass(frozen=True, slots=True)
class TaskRetried(WorkerEvent):
    """A task that some worker lost was published again; `lease.dispatch` counts the times."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class RunCanceled(WorkerEvent):
    """A run was canceled; what runs of it on this worker is being stopped."""

    run: str


@dataclass(frozen=True, slots=True)
class RunEnded(WorkerEvent):
    """Every task of a run has a result."""

    run: str


class Observer(Protocol):
    """Sees what happens to tasks; the module's docstring is the contract."""

    def saw(self, event: WorkerEvent) -> None:
        """Take note of an event."""


class Observers:
    """The observers of a worker, as what they observe sees them."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers = list(observers)
        self._errors = ErrorLog(logger)

    def add(self, observer: Observer) -> None:
        """Let one more observer see what happens from now on."""
        self._observers.append(observer)

    def notify(self, event: WorkerEvent) -> None:
        """Show an event to each observer, whatever the others make of it."""
        for observer in self._observers:
            try:
                observer.saw(event)
            except Exception as error:  # noqa: BLE001  (an observer must not cost a task)
                self._errors.log(f"observer {type(observer).__name__}", error)


class LogObserver:
    """Writes a line to the worker's log for each event."""

    def saw(self, event: WorkerEvent) -> None:
        """Log an event: as a warning if somebody may have to look after something."""
        level = logging.WARNING if isinstance(event, TaskReleased | TaskLost) else logging.INFO
        if logger.isEnabledFor(level) and (text := _describe(event)):
            logger.log(level, "%s", text)


def _describe(event: WorkerEvent) -> str | None:
    match event:
        case TaskStarted(lease, spec):
            return f"{lease}: {spec.backend} started"
        case TaskEnded(lease, result):
            return f"{lease}: {result.status} after {result.duration_seconds:.1f} s"
        case TaskHeld(lease, result, queue, until_ms):
            until = rfc3339_from_ms(until_ms)
            return f"{lease}: {result.error_kind}, tried again in {queue} from {until} on"
        case TaskReleased(lease, reason):
            return f"{lease}: stopped and released ({reason})"
        case TaskLost(lease, reason, losses):
            return f"{lease}: lost {losses} times, not retried: {reason}"
        case TaskRetried(lease):
            return f"{lease}: published again"
        case RunCanceled(run):
            return f"run {run}: canceled"
        case RunEnded(run):
            return f"run {run}: ended"
        case WorkerStarted(worker, slots, queues):
            return f"worker {worker}: {slots} slots for {', '.join(queues)}"
    return None
