"""Results that are kept for a server that may forget them."""

from __future__ import annotations

import pytest

from clinvk.broker import recent_results
from clinvk.broker.recent_results import RecentResults
from clinvk.core.spec import TaskResult, TaskStatus
from clinvk.store.types import Lease


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def result(index: int, output: str = "x") -> TaskResult:
    return TaskResult(
        index=index, status=TaskStatus.OK, exit_code=0, duration_seconds=1.0, output=output
    )


def test_a_result_is_found_for_its_dispatch_and_earlier_ones() -> None:
    recent = RecentResults()
    recent.add(Lease("r", 1, 2), result(1))
    assert recent.find(Lease("r", 1, 1)) == recent.find(Lease("r", 1, 2)) == result(1)
    assert recent.find(Lease("r", 1, 3)) is None  # dispatched anew on purpose
    assert recent.find(Lease("r", 2, 1)) is None


def test_what_is_old_or_too_much_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_results, "PRUNE_EVERY", 1)
    clock = Clock()
    recent = RecentResults(clock)
    recent.add(Lease("r", 1, 1), result(1))
    clock.now = recent_results.KEPT_SECONDS + 1
    recent.add(Lease("r", 2, 1), result(2))
    assert [lease.index for lease, _ in recent.latest()] == [2]
    monkeypatch.setattr(recent_results, "MAX_RESULTS", 2)
    recent.add(Lease("r", 3, 1), result(3))
    recent.add(Lease("r", 4, 1), result(4))
    assert [lease.index for lease, _ in recent.latest()] == [3, 4]
    monkeypatch.setattr(recent_results, "MAX_CHARS", 10)
    recent.add(Lease("r", 5, 1), result(5, "y" * 10))
    assert [lease.index for lease, _ in recent.latest()] == [5]


def test_a_result_that_is_recorded_again_is_kept_once() -> None:
    recent = RecentResults()
    for output in ("a", "b"):
        recent.add(Lease("r", 1, 1), result(1, output))
    assert recent.latest() == [(Lease("r", 1, 1), result(1, "b"))]
