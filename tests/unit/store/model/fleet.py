"""Runs, queues and workers as a reader would explain them: no Redis, no Lua, no time.

The model does not say which run is next; it says whether what was dispatched could be, and that
nothing is held back that could go.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from clinvk.core.spec import RunOptions, TaskResult, TaskSpec, TaskStatus, backend_of
from clinvk.core.spending import LOST, Spending
from clinvk.store.types import Canceled, Dispatched, Lease


@dataclass
class Out:
    """A task in flight: dispatched (no claim yet) or running ("<owner>/<nonce>")."""

    dispatch: int
    claim: str = ""
    is_over: bool = False
    is_released: bool = False

    def is_owned_by(self, owner: str) -> bool:
        """Whether this worker process claimed it."""
        return self.claim.startswith(f"{owner}/")


@dataclass
class Task:
    """One task of a run."""

    spec: TaskSpec
    max_attempts: int
    handed: int = 0
    worker_losses: int = 0
    in_flight: Out | None = None
    result: bytes | None = None
    earlier: bytes | None = None
    is_canceled: bool = False
    steps: int = 0
    put_back: int = 0
    moved_to: str | None = None

    @property
    def queue(self) -> str:
        """The queue that it runs or waits in."""
        return self.moved_to or self.spec.queue

    @property
    def asked_model(self) -> str:
        """The model that it asks for in this queue."""
        return "" if self.moved_to else self.spec.model or ""


@dataclass
class Run:
    """A run: its tasks, what waits in which queue, and how far it is."""

    options: RunOptions
    tasks: list[Task]
    pending: dict[str, list[int]]
    held: set[int] = field(default_factory=set)
    state: str = "running"
    retries: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    events: list[tuple[str, ...]] = field(default_factory=list)
    steps: list[tuple[int, int, int]] = field(default_factory=list)
    last_step: int = 0
    ledger: dict[tuple[str, ...], Spending] = field(default_factory=dict)

    def charge(self, index: int, model: str, spending: Spending) -> None:
        """Count what an execution used."""
        task = self.tasks[index]
        row = (backend_of(task.queue), model, *task.spec.tags)
        if spending.executions:
            self.ledger[row] = self.ledger.get(row, Spending()) + spending

    def in_flight(self) -> dict[int, Out]:
        """What is in flight, by index."""
        return {index: task.in_flight for index, task in enumerate(self.tasks) if task.in_flight}

    def wants(self, queue: str) -> bool:
        """Whether it would take a slot of this queue."""
        has_room = len(self.in_flight()) < self.options.max_parallel
        return self.state == "running" and has_room and bool(self.pending.get(queue))

    def is_complete(self) -> bool:
        """Whether each task has its end, while nobody has closed the run."""
        ended = all(task.result or task.is_canceled for task in self.tasks)
        return self.state != "done" and ended

    def was_canceled(self) -> bool:
        """Whether it was canceled and not retried since."""
        kinds = [event[0] for event in self.events]
        return "canceled" in kinds[_after_last(kinds, "retried") :]


@dataclass
class Queue:
    """A queue's limits, whether a rate would be used up, who was served last, its messages."""

    max_concurrency: int | None = None
    interval_ms: int | None = None
    is_paused: bool = False
    is_closed: bool = False
    is_used_up: bool = False
    served_last: str = ""
    messages: list[Lease] = field(default_factory=list)


class Model:
    """All of it, and the operations. Each returns what the store should answer."""

    def __init__(self, queues: Iterable[str]) -> None:
        self.runs: dict[str, Run] = {}
        self.keys: dict[str, str] = {}
        self.queues = {name: Queue() for name in queues}
        self.workers: dict[str, tuple[int, Sequence[str]]] = {}
        self.silent: set[str] = set()
        self.counted: list[tuple[int, Sequence[str]]] = []

    # Questions.

    def leases(self, queue: str | None = None) -> dict[Lease, Out]:
        """What is in flight, of a queue or of all."""
        return {
            Lease(name, index, in_flight.dispatch): in_flight
            for name, run in self.runs.items()
            for index, in_flight in run.in_flight().items()
            if queue in (None, run.tasks[index].queue)
        }

    def task_of(self, lease: Lease) -> Task | None:
        """The task of a lease, if it is this dispatch that has it."""
        run = self.runs.get(lease.run)
        task = run.tasks[lease.index] if run and lease.index < len(run.tasks) else None
        return (
            task if task and task.in_flight and task.in_flight.dispatch == lease.dispatch else None
        )

    def result(self, lease: Lease) -> bytes | None:
        """The result of a lease's task, if there is one."""
        run = self.runs.get(lease.run)
        return run.tasks[lease.index].result if run and lease.index < len(run.tasks) else None

    def waiting(self, queue: str) -> int:
        """How many tasks wait in a queue."""
        held = sum(
            run.tasks[index].queue == queue for run in self.runs.values() for index in run.held
        )
        return held + sum(len(run.pending.get(queue, ())) for run in self.runs.values())

    def slots(self, queue: str | None = None) -> int:
        """The slots that serve a queue, or all, as last counted."""
        return sum(slots for slots, serves in self.counted if queue is None or queue in serves)

    def slots_taken(self, queue: str | None = None) -> int:
        """What is in flight and has its owner: where a lease is over, the slot has gone with it."""
        return sum(not in_flight.is_over for in_flight in self.leases(queue).values())

    def why_closed(self, name: str) -> str:
        """Why a queue may not dispatch one more task; empty if it may."""
        queue, in_flight = self.queues[name], len(self.leases(name))
        if queue.is_paused:
            return "paused"
        if queue.max_concurrency is not None and in_flight >= queue.max_concurrency:
            return "limit"
        if queue.is_closed:
            return "limited"
        if self.slots_taken(name) >= self.slots(name):
            return "no slot serves it"
        if self.slots_taken() >= self.slots():
            return "the fleet is full"
        if queue.interval_ms is not None and queue.is_used_up:
            return "rate"
        return ""

    def is_held_up_by_time(self) -> bool:
        """Whether somebody waits for nothing but a queue's rate."""
        return any(
            self.why_closed(name) == "rate" and any(run.wants(name) for run in self.runs.values())
            for name in self.queues
        )

    # Dispatching.

    def take(self, dispatched: Iterable[Dispatched]) -> None:
        """Take what was dispatched, each time asking whether it could be."""
        for each in dispatched:
            self._take(each)
        for name in self.queues:
            held_back = [run for run in self.runs if self.runs[run].wants(name)]
            assert self.why_closed(name) or not held_back, f"{name} holds back {held_back}"

    def _take(self, dispatched: Dispatched) -> None:
        run, queue = self.runs[dispatched.run], self.queues[dispatched.queue]
        task = run.tasks[dispatched.index]
        assert run.wants(dispatched.queue), f"{dispatched} of a run that wants nothing"
        assert not self.why_closed(dispatched.queue), (
            f"{dispatched}: {self.why_closed(dispatched.queue)}"
        )
        others = [name for name, its in self.runs.items() if its.wants(dispatched.queue)]
        first = max(self.runs[name].options.priority for name in others)
        assert run.options.priority == first, f"{dispatched} goes before a higher priority"
        equals = [name for name in others if self.runs[name].options.priority == first]
        is_its_turn = dispatched.run != queue.served_last or equals == [dispatched.run]
        assert is_its_turn, f"{dispatched} is not the turn of its run"
        assert dispatched.index == run.pending[dispatched.queue].pop(0), (
            f"{dispatched} is not the next"
        )
        task.handed += 1
        assert dispatched.dispatch == task.handed, f"{dispatched} should be dispatch {task.handed}"
        task.in_flight = Out(dispatched.dispatch)
        queue.served_last = dispatched.run
        queue.is_used_up = True
        queue.messages.append(Lease(dispatched.run, dispatched.index, dispatched.dispatch))

    # Operations on a run.

    def submit(
        self, name: str, specs: Sequence[TaskSpec], options: RunOptions, run_key: str
    ) -> str:
        """Record a run; returns the one that its key stands for."""
        if run_key:
            taken = self.keys.setdefault(run_key, name)
            if taken != name:
                return taken
        pending: dict[str, list[int]] = {}
        for index, spec in enumerate(specs):
            pending.setdefault(spec.queue, []).append(index)
        tasks = [Task(spec, _most_losses(spec, options)) for spec in specs]
        self.runs[name] = Run(options, tasks, pending)
        return name

    def claim(self, lease: Lease, owner: str, nonce: str) -> str:
        """A worker's first act on a message; returns the verdict."""
        run, task = self.runs.get(lease.run), self.task_of(lease)
        in_flight = task.in_flight if task else None
        if in_flight and in_flight.claim == f"{owner}/{nonce}":
            return "go"
        if run and run.state == "canceled":
            return "canceled"
        if not run or not in_flight or in_flight.claim:
            return "stale"
        in_flight.claim, in_flight.is_over = f"{owner}/{nonce}", False
        in_flight.is_released = False
        run.events.append(("started", str(lease.index), str(lease.dispatch)))
        return "go"

    def renew(self, owner: str, leases: Iterable[Lease]) -> list[Lease]:
        """Keep leases; returns those to stop."""
        return [lease for lease in leases if not self._renew(owner, lease)]

    def _renew(self, owner: str, lease: Lease) -> bool:
        task = self.task_of(lease)
        if not task or not task.in_flight:
            return False
        task.in_flight.claim = task.in_flight.claim or f"{owner}/renewed"
        if not task.in_flight.is_owned_by(owner) or task.in_flight.is_released:
            return False
        task.in_flight.is_over = False
        return self.runs[lease.run].state == "running"

    def release(self, owner: str, leases: Sequence[Lease]) -> int:
        """Give leases up, all of a owner without any; returns how many."""
        count = 0
        for lease in leases or self.leases():
            task = self.task_of(lease)
            if task and task.in_flight and task.in_flight.is_owned_by(owner):
                task.in_flight.is_released = task.in_flight.is_over = True
                count += 1
        return count

    def disown(self, name: str) -> int:
        """Nothing of a run runs, or will be claimed; returns how much of it was in flight."""
        in_flight = self.runs[name].in_flight().values() if name in self.runs else ()
        for each in in_flight:
            each.is_released = each.is_over = True
        return len(in_flight)

    def finish(self, lease: Lease, ended: TaskResult) -> tuple[bool, Canceled]:
        """Record a result once; returns whether it is recorded, and what was taken back."""
        status, result = ended.status, ended.to_wire()
        task = self.task_of(lease) or self._forgotten(lease)
        if not task:
            run = self.runs.get(lease.run)
            has_it = run and lease.index < len(run.tasks) and run.tasks[lease.index].result
            return has_it == result, Canceled(0, [])
        run = self.runs[lease.run]
        task.in_flight, task.result, task.earlier = None, result, None
        run.charge(lease.index, ended.model or "", Spending.of(ended))
        run.events.append(("finished", str(lease.index), str(lease.dispatch)))
        _count(run, status.value, 1)
        if status is not TaskStatus.OK and run.options.fail_fast:
            return True, self.cancel(lease.run)
        return True, Canceled(0, [])

    def _forgotten(self, lease: Lease) -> Task | None:
        """The task of a dispatch that the server knows nothing of: it is pending there, no more."""
        run = self.runs.get(lease.run)
        if run is None or run.state != "running" or lease.index >= len(run.tasks):
            return None
        task = run.tasks[lease.index]
        pending = run.pending.get(task.queue, [])
        if lease.dispatch <= task.handed:
            return None
        if lease.index in run.held:
            run.held.remove(lease.index)
        elif lease.index in pending:
            pending.remove(lease.index)
        else:
            return None
        task.handed = lease.dispatch
        return task

    def hold(self, lease: Lease, is_window: bool, is_delayed: bool, ended: TaskResult) -> str:
        """Put a task back; with `is_window` its queue is closed. Returns the verdict."""
        run = self.runs.get(lease.run)
        if run is None or run.state != "running" or lease.index >= len(run.tasks):
            return "stale"
        if run.tasks[lease.index].put_back == lease.dispatch:
            return "held"
        task = self.task_of(lease)
        if task is None:
            return "stale"
        if is_window:
            self._close(task.queue)
        if task.spec.max_wait_seconds is not None and is_window:
            return "over"
        run.charge(lease.index, ended.model or "", Spending.of(ended))
        task.in_flight, task.put_back = None, lease.dispatch
        if is_delayed:
            run.held.add(lease.index)
        else:
            run.pending.setdefault(task.queue, []).insert(0, lease.index)
        run.events.append(("held", str(lease.index), str(lease.dispatch)))
        return "held"

    def _close(self, queue: str) -> None:
        """Close a queue, and take back what nobody has claimed of it."""
        self.queues[queue].is_closed = True
        unclaimed = [lease for lease, out in self.leases(queue).items() if not out.claim]
        for lease in sorted(unclaimed, key=lambda lease: -lease.index):
            run = self.runs[lease.run]
            run.tasks[lease.index].in_flight = None
            run.pending.setdefault(queue, []).insert(0, lease.index)

    def move(self, lease: Lease, queue: str) -> str:
        """Let a task that waits for too long wait in another queue; returns the verdict."""
        run = self.runs[lease.run]
        task = run.tasks[lease.index]
        if self.queues[queue].is_closed:
            return "over"
        if queue == task.queue:
            return "stale"
        if lease.index in run.held:
            run.held.remove(lease.index)
        else:
            run.pending[task.queue].remove(lease.index)
        task.moved_to = queue
        run.pending.setdefault(queue, []).insert(0, lease.index)
        run.events.append(("held", str(lease.index), str(lease.dispatch)))
        return "held"

    def end_holds(self, name: str) -> None:
        """The time has come until which tasks of a run were held."""
        run = self.runs[name]
        for index in sorted(run.held, reverse=True):
            run.pending.setdefault(run.tasks[index].queue, []).insert(0, index)
        run.held.clear()

    def expired_waits(self) -> set[Lease]:
        """The dispatch after the next of each task that may not wait while its queue is closed."""
        return {
            Lease(name, index, run.tasks[index].handed + 2)
            for name, run in self.runs.items()
            for index in {*run.held, *(index for each in run.pending.values() for index in each)}
            if run.tasks[index].spec.max_wait_seconds is not None
            and self.queues[run.tasks[index].queue].is_closed
        }

    def cancel(self, name: str) -> Canceled:
        """Cancel a run; returns what no worker had."""
        run = self.runs.get(name)
        if not run or run.state != "running":
            return Canceled(0, [])
        run.state = "canceled"
        run.events.append(("canceled",))
        unpublished = [index for indexes in run.pending.values() for index in indexes]
        unpublished += run.held
        run.held = set()
        published = [index for index, in_flight in run.in_flight().items() if not in_flight.claim]
        run.pending = {}
        for index in unpublished:
            run.tasks[index].handed += 1  # where it is retried, it skips one
        for index in [*unpublished, *published]:
            task = run.tasks[index]
            task.in_flight, task.result, task.earlier = None, task.earlier, None
            task.is_canceled = task.result is None
            _count(run, _status(task), 1)
        return Canceled(len(unpublished), published)

    def aggregate(self, name: str) -> bool:
        """Close a run whose tasks have all ended; returns whether it is closed."""
        run = self.runs.get(name)
        if run and run.is_complete():
            run.state = "done"
            run.events.append(("ended",))
        return bool(run and run.state == "done")

    def retry(
        self,
        name: str,
        tasks: Mapping[int, TaskSpec | None],
        seen_retries: int,
        max_parallel: int | None,
    ) -> str:
        """Run tasks again, some with new specs; returns the verdict."""
        run = self.runs.get(name)
        if run is None:
            return "gone"
        if seen_retries != run.retries:
            return "changed"
        if run.state == "canceled" and not run.is_complete():
            return "ending"
        was_canceled = run.was_canceled()
        if not was_canceled and any(run.tasks[index].result is None for index in tasks):
            return "changed"
        for index, task in enumerate(run.tasks):
            if was_canceled and task.result is None and index not in tasks:
                task.result, task.is_canceled = _never_started(index), False
        for index in sorted(tasks):
            self._begin_again(run, index, tasks[index])
        run.state = "running"
        run.retries += 1
        if max_parallel is not None:
            run.options = replace(run.options, max_parallel=max_parallel)
        return "retried"

    def _begin_again(self, run: Run, index: int, spec: TaskSpec | None) -> None:
        task = run.tasks[index]
        _count(run, _status(task), -1)
        task.earlier, task.result, task.is_canceled = task.result, None, False
        task.worker_losses = task.put_back = 0
        task.moved_to = None
        if spec is not None:
            task.spec, task.max_attempts = spec, _most_losses(spec, run.options)
        run.pending.setdefault(task.queue, []).append(index)
        run.events.append(("retried", str(index)))

    def lose(self, lease: Lease) -> bool:
        """Dispatch a task again, later; returns whether it is exhausted instead."""
        task, run = self.task_of(lease), self.runs[lease.run]
        assert task is not None
        assert task.in_flight is not None
        if not task.in_flight.is_over:  # its owner has come back
            return False
        is_claimed = bool(task.in_flight.claim)
        if run.state != "running" or (is_claimed and task.worker_losses + 1 >= task.max_attempts):
            return True
        task.in_flight = None
        run.pending.setdefault(task.queue, []).insert(0, lease.index)
        if is_claimed:
            task.worker_losses += 1
            run.charge(lease.index, task.asked_model, LOST)
            run.events.append(("lost", str(lease.index), str(lease.dispatch)))
        return False

    def record_steps(self, name: str, indexes: Sequence[int], most: int) -> int:
        """Record a step of each of these tasks, of which `most` are kept; returns how many."""
        run = self.runs.get(name)
        if run is None:
            return 0
        for index in indexes:
            run.last_step += 1
            run.tasks[index].steps += 1
            run.steps.append((run.last_step, index, run.tasks[index].steps))
            its = [step for step in run.steps if step[1] == index]
            if len(its) > most:
                run.steps.remove(its[0])
        return len(indexes)

    # Workers and queues.

    def announce(self, worker: str, slots: int, serves: Sequence[str]) -> None:
        """A worker says what it is; without slots, that it is gone."""
        self.silent.discard(worker)
        self.workers.pop(worker, None)
        for name in self.silent:
            self.workers.pop(name, None)
        self.silent.clear()
        if slots:
            self.workers[worker] = (slots, serves)
        self.counted = list(self.workers.values())


def _most_losses(spec: TaskSpec, options: RunOptions) -> int:
    if spec.on_worker_lost == "fail":
        return 1
    return spec.effective_max_attempts or options.max_attempts


def _status(task: Task) -> str:
    return str(json.loads(task.result)["status"]) if task.result else "canceled"


def _never_started(index: int) -> bytes:
    return TaskResult.never_started(index).to_wire()


def _after_last(kinds: Sequence[str], kind: str) -> int:
    """The place after the last one of a kind."""
    return max((place + 1 for place, each in enumerate(kinds) if each == kind), default=0)


def _count(run: Run, status: str, count: int) -> None:
    if count:
        run.counts[status] = run.counts.get(status, 0) + count
