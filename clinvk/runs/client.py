"""Submit a run, watch it, cancel it: all that the commands know about Redis and Celery."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

from clinvk.core.requirements import Requirements
from clinvk.core.spec import RunOptions, RunSummary, TaskResult, TaskSpec
from clinvk.core.steps import StepRecord
from clinvk.runs.waiting import Wait

LAST = "last"
"""Stands for the newest run of this user, wherever a run is named."""

StepsWanted = Literal["none", "recent", "all"]
"""Which steps of a run somebody wants to see: where many have happened already, the recent ones are
about those of the tasks that run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a run.

    `started`: dispatch `dispatch` of task `index` began on `worker`, with `backend` if that is not
    certain by its spec.
    `held`: task `index` runs no longer; it was put back, to go on later.
    `waits`: what tasks wait for until a time has changed, and is now `waits`.
    `step`: the CLI of task `index` did something, which `step` says; for who asked for steps.
    `finished`: task `index` has its one `result`. Comes exactly once for each index, and once more
    after each `retried`.
    `known`: task `index` had its `result` before this client came, which only reports it.
    `retried`: task `index`, whose `result` this was, runs again.
    `ended`: the run is over, the last event.
    `idle`: nothing happened for a second.
    `waiting`: nothing happened for long; `why` says what the run waits for.
    `repaired`: the audit repaired the run's record; `why` says what was wrong.
    `away`: the broker cannot be reached just now, for the reason `why`; the run goes on.
    """

    kind: Literal[
        "started",
        "held",
        "waits",
        "step",
        "finished",
        "known",
        "retried",
        "ended",
        "idle",
        "away",
        "waiting",
        "repaired",
    ]
    at_ms: int = 0
    index: int = -1
    dispatch: int = 1
    worker: str | None = None
    backend: str = ""
    result: TaskResult | None = None
    step: StepRecord | None = None
    why: str = ""
    waits: Sequence[Wait] = ()


class Run(Protocol):
    """One submitted run."""

    @property
    def id(self) -> str:
        """The run's id."""

    @property
    def outlives_client(self) -> bool:
        """Whether the run goes on when nobody watches it."""

    def events(self, steps: StepsWanted = "none") -> Iterator[Event]:
        """Yield the run's events from its beginning, waiting for new ones, until `ended`."""

    def cancel(self, reason: str) -> None:
        """Mark the run canceled; its events go on until `ended`. Safe from any thread."""

    def summary(self) -> RunSummary:
        """Read the run's counts and times."""


class SubmittedRun(Run, Protocol):
    """One that was submitted just now, or before under the same key."""

    def specs(self) -> Sequence[TaskSpec]:
        """Read the run's tasks."""


class Client(Protocol):
    """A way to reach the workers.

    Attributes:
        ship_bytes: how much of a checkout may be sent to workers that have none.
    """

    ship_bytes: int

    def submit(
        self,
        specs: Sequence[TaskSpec],
        options: RunOptions,
        run_key: str = "",
        given: Sequence[TaskSpec] | None = None,
    ) -> SubmittedRun:
        """Record a run and release its first tasks; with a key, once for all submitters.

        The key stands for the tasks that were `given`, if these are others.
        """

    def check_served(self, choices: Iterable[Sequence[str]], requires: Requirements) -> None:
        """Make sure that live workers serve one backend of each choice, and have what is required.

        Raises:
            BrokerError: they do not.
        """


def new_run_id() -> str:
    """Return the id of a run that is submitted now; ids are in the order of time."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.urandom(4).hex()}"


def key_problem(run_key: str, run: str) -> str:
    """Say that a submitter's key stands for a run of other tasks."""
    return (
        f'--run-key "{run_key}" belongs to run {run}, which has other tasks or options: '
        "use another key"
    )


class PrivateFleet(Protocol):
    """A fleet of this client's own for one run, beside the broker that it has."""

    @property
    def run_id(self) -> str:
        """The id that the run has to have."""

    def submitting(self, run: RunSummary) -> None:
        """Take note of what is about to be submitted."""

    def message_of(self, run: str) -> str:
        """Return the message of any task of the run."""

    def check(self) -> None:
        """Raise BrokerError if it cannot be kept up any more."""

    def cancel(self, run: str, reason: str) -> None:
        """Have a run canceled, whether or not the broker can be reached from here."""
