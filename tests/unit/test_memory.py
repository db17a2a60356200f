"""A client's memory does not grow with the number of tasks."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from clinvk.backends import BackendRegistry
from clinvk.core.spec import RunSummary, TaskResult, TaskSpec, TaskStatus
from clinvk.output import documents, plan, text_lines
from clinvk.output.kinds import formatter_of
from clinvk.runs import follow
from clinvk.runs.celery_run import CeleryRun
from clinvk.runs.client import Event, StepsWanted
from clinvk.runs.interruption import Interruption
from clinvk.runs.report import Report
from clinvk.runs.spool import Spool
from clinvk.taskfile import reader
from clinvk.taskfile.schema import TASKS

FEW, MANY = 200, 1_000
CHARS = 1_000
INDEX_BYTES = 60
"""What may stay of each task: where it is, in a few arrays that grow ahead of need."""
ID_BYTES = 100
"""What an id takes beside, for a moment: all of them are sorted, as numbers."""
PAGE = 100


def spec(index: int) -> TaskSpec:
    return TaskSpec(backend="echo", prompt=f"{index} ".ljust(CHARS, "x"))


def result(index: int) -> TaskResult:
    return TaskResult(
        index=index,
        status=TaskStatus.OK,
        exit_code=0,
        duration_seconds=1.5,
        output=f"{index} ".ljust(CHARS, "x"),
    )


def lines(count: int, more: str) -> Iterator[bytes]:
    for index in range(count):
        line = f'{{"backend": "echo", "prompt": "{spec(index).prompt}"{more}}}\n'
        yield (line % index if more else line).encode()


def read(count: int, more: str = "") -> object:
    return reader.parse(lines(count, more), "t", {"echo": True}, TASKS).tasks


def read_with_ids(count: int) -> object:
    return read(count, more=', "id": "a rather long id of a task %d"')


class EndedRun:
    """A run of which every task has ended."""

    id = "r"
    outlives_client = True

    def __init__(self, count: int) -> None:
        self.count = count

    def events(self, steps: StepsWanted = "none") -> Iterator[Event]:
        for index in reversed(range(self.count)):
            yield Event(kind="started", index=index)
            yield Event(kind="finished", index=index, result=result(index))
        yield Event(kind="ended")

    def cancel(self, reason: str) -> None:
        raise AssertionError

    def summary(self) -> RunSummary:
        return RunSummary(run_id="r", total=self.count, created_ms=1, ended_ms=2)


def followed(count: int) -> Report:
    specs = Spool(TaskSpec, map(spec, range(count)))
    return follow.follow(EndedRun(count), specs, [], Interruption(print))


def total_chars(pieces: Iterator[str]) -> int:
    return sum(map(len, pieces))


def write_document(count: int) -> object:
    return total_chars(formatter_of("parallel").document(followed(count)))


def write_table(count: int) -> object:
    return total_chars(text_lines.table(followed(count), 80, "TASK"))


class Sources(Sequence[str]):
    def __init__(self, count: int) -> None:
        self.length = count

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        if index >= self.length:
            raise IndexError
        return f"t: line {index}"


def write_plan(count: int) -> object:
    specs = Spool(TaskSpec, map(spec, range(count)))
    planned = plan.plan(specs, Sources(count), BackendRegistry.from_config({}).get)
    return total_chars(documents.listing({}, "tasks", plan.entries(planned)))


class FakeClient:
    """A client of a broker with one long run, of which the last tasks were never started."""

    def __init__(self, count: int) -> None:
        self.store = self
        self.count = count

    def wait_events(self, _run: str, after: str, _block_ms: int) -> tuple[str, list[Any]]:
        first, until = int(after), min(int(after) + PAGE, self.count // 2)
        entries = [
            {
                "kind": "finished",
                "index": str(index),
                "dispatch": "1",
                "position": str(index + 1),
                "at_ms": "5",
            }
            for index in range(first, until)
        ]
        return str(until), entries or [{"kind": "ended", "position": str(until), "at_ms": "9"}]

    def summary(self, run: str) -> RunSummary:
        return RunSummary(run_id=run, total=self.count, ended_ms=9)

    def results(self, _run: str, indexes: Sequence[int]) -> Iterator[TaskResult]:
        return iter([result(index) for index in indexes])

    def reaching_broker(self) -> Any:
        return pytest.MonkeyPatch.context()  # any context that does nothing


def events_of_a_broker(count: int) -> object:
    run = CeleryRun("r", count, FakeClient(count))  # type: ignore[arg-type]
    seen = sum(event.result is not None for event in run.events())
    assert seen == count
    return seen


def peak_bytes(act: Callable[[int], object], count: int) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        kept = act(count)
        _, peak = tracemalloc.get_traced_memory()
        del kept
    finally:
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    ("act", "more_bytes"),
    [
        (read, 0),
        (read_with_ids, ID_BYTES),
        (events_of_a_broker, 0),
        (followed, 0),
        (write_document, 0),
        (write_table, 0),
        (write_plan, 0),
    ],
)
def test_memory_stays(
    act: Callable[[int], object], more_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinvk.runs.spool.HELD_BYTES", 1 << 14)
    act(10)  # what is made once
    # What else this process does meanwhile counts, too: it is measured again before it fails.
    grown = (peak_bytes(act, MANY) - peak_bytes(act, FEW) for _ in range(3))
    assert any(each < (MANY - FEW) * (INDEX_BYTES + more_bytes) for each in grown)
