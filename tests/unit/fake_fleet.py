"""Run the command line in this process, against a fleet that answers from a script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from clinvk.core.errors import BrokerError
from clinvk.core.requirements import NOTHING, Requirements
from clinvk.core.spec import ErrorKind, RunOptions, RunSummary, TaskResult, TaskSpec, TaskStatus
from clinvk.runs.client import Event, StepsWanted
from tests.harness import Completed as Ended

STARTED_MS = 1_767_323_045_000  # 2026-01-02T03:04:05Z


def ok(index: int, output: str, seconds: float = 2.5, **more: Any) -> TaskResult:
    return TaskResult(
        index=index,
        status=TaskStatus.OK,
        exit_code=0,
        duration_seconds=seconds,
        output=output,
        **more,
    )


def bad(index: int, error: str, status: TaskStatus = TaskStatus.FAILED, **more: Any) -> TaskResult:
    fields: dict[str, Any] = {"exit_code": 1, "duration_seconds": 3.2}
    fields |= {"error_kind": ErrorKind.FAILED} | more
    return TaskResult(index=index, status=status, error=error, **fields)


@dataclass
class FakeFleet:
    """Answers a submitted run with `results`, in the order of the list."""

    results: list[TaskResult] = field(default_factory=list)
    breaks_after: int | None = None
    unreachable: str | None = None
    canceled: str | None = None
    submitted: Sequence[TaskSpec] = ()
    key: tuple[str, Sequence[TaskSpec]] = ("", ())
    options: RunOptions | None = None
    connected_to: str | None = "not connected"
    on_event: Callable[[Event], object] = lambda event: None
    steps_wanted: StepsWanted = "none"
    id: str = "20260102-030405-abcdef01"

    @contextmanager
    def connect(self, broker_url: str | None, **_: Any) -> Iterator[FakeFleet]:
        self.connected_to = broker_url
        if self.unreachable:
            raise BrokerError(self.unreachable)
        yield self

    outlives_client = False

    def check_served(
        self, choices: Iterable[Sequence[str]], requires: Requirements = NOTHING
    ) -> None:
        """Say that all is served."""

    def submit(
        self,
        specs: Sequence[TaskSpec],
        options: RunOptions,
        run_key: str = "",
        given: Sequence[TaskSpec] | None = None,
    ) -> FakeFleet:
        self.submitted, self.options = specs, options
        self.key = (run_key, specs if given is None else given)
        if not self.results:
            self.results = [ok(index, f"answer {index}") for index in range(len(specs))]
        return self

    def specs(self) -> Sequence[TaskSpec]:
        return self.submitted

    def events(self, steps: StepsWanted = "none") -> Iterator[Event]:
        self.steps_wanted = steps
        for number, result in enumerate(self.results):
            if number == self.breaks_after:
                raise BrokerError("the broker is gone")
            yield Event(kind="started", at_ms=STARTED_MS, index=result.index)
            event = Event(
                kind="finished", at_ms=STARTED_MS + 3200, index=result.index, result=result
            )
            yield event
            self.on_event(event)
        yield Event(kind="ended", at_ms=STARTED_MS + 3200)

    def cancel(self, reason: str) -> None:
        self.canceled = reason

    def summary(self) -> RunSummary:
        return RunSummary(
            run_id=self.id,
            total=len(self.submitted),
            created_ms=STARTED_MS,
            ended_ms=STARTED_MS + 3200,
        )


Clinvk = Callable[..., Ended]
