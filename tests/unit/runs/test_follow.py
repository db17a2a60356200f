"""Following a run that does not go as it should."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from clinvk.core.errors import BrokerError, ClinvkError, WireError
from clinvk.core.spec import RunSummary, TaskResult, TaskSpec, TaskStatus
from clinvk.runs import follow
from clinvk.runs.client import Event, StepsWanted
from clinvk.runs.interruption import Interruption, Signals

SPECS = [TaskSpec(backend="echo", prompt="x")] * 3
NOW_MS = 1_767_323_045_000


class Broken:
    """A run whose events break off after the second task's."""

    id = "r"
    outlives_client = False

    def __init__(self, error: ClinvkError | None, events: int = 1) -> None:
        self.error = error
        self.count = events

    def events(self, steps: StepsWanted = "none") -> Iterator[Event]:
        result = TaskResult(
            index=1, status=TaskStatus.OK, exit_code=0, duration_seconds=1, output="answer"
        )
        for _ in range(self.count):
            yield Event(kind="finished", at_ms=5, index=1, result=result)
        if self.error is not None:
            raise self.error

    def cancel(self, reason: str) -> None:
        raise AssertionError

    def summary(self) -> RunSummary:
        return RunSummary(run_id="r", total=3, created_ms=NOW_MS, ended_ms=NOW_MS + 5)


@pytest.mark.parametrize("events", [0, 1])
@pytest.mark.parametrize("error", [BrokerError("gone"), WireError("newer")])
def test_what_is_not_known_is_lost(
    monkeypatch: pytest.MonkeyPatch, error: ClinvkError, events: int
) -> None:
    times = iter([NOW_MS, NOW_MS + 1500])
    monkeypatch.setattr(follow, "_now_ms", lambda: next(times))
    seen: list[int] = []
    with pytest.raises(follow.BrokerLostError, match=str(error)) as caught:
        follow.follow(
            Broken(error, events),
            SPECS,
            [lambda event: seen.append(event.index)],
            Interruption(print),
        )
    report = caught.value.report
    expected = ["lost", "ok" if events else "lost", "lost"]
    assert [result.status for result in report.results] == expected
    assert [result.error for result in report.results if result.error] == (
        [str(error)] * expected.count("lost")
    )
    assert sorted(seen) == [0, 1, 2]
    assert (report.started_ms, report.duration_seconds) == (NOW_MS, 1.5)


def test_a_result_that_never_came_is_lost() -> None:
    report = follow.follow(Broken(None), SPECS, [], Interruption(print))
    assert [result.status for result in report.results] == ["lost", "ok", "lost"]
    assert report.results[0].error == "its result never arrived"
    assert report.exit_code == 1


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals(print):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class Retried(Broken):
    """A run of which a task has failed, runs again, and succeeds; another was known before."""

    def events(self, steps: StepsWanted = "none") -> Iterator[Event]:
        results = [
            TaskResult(
                index=index,
                status=status,
                exit_code=0,
                duration_seconds=1,
                output=output,
                waited_seconds=30.0,
            )
            for index, status, output in (
                (0, TaskStatus.OK, "known"),
                (1, TaskStatus.FAILED, None),
                (1, TaskStatus.OK, "new"),
            )
        ]
        yield Event(kind="known", index=0, result=results[0])
        yield Event(kind="finished", at_ms=5, index=1, result=results[1])
        yield Event(kind="retried", at_ms=6, index=1)
        yield Event(kind="finished", at_ms=7, index=1, result=results[2])
        yield Event(kind="ended", at_ms=7)

    def summary(self) -> RunSummary:
        return RunSummary(
            run_id="r", total=2, created_ms=NOW_MS, ended_ms=NOW_MS + 9000, idle_ms=6500
        )


def test_a_task_that_runs_again_counts_once_and_says_which_result_it_had() -> None:
    seen: list[tuple[str, str]] = []

    def see(event: Event) -> None:
        if event.result is not None:
            seen.append((event.kind, event.result.status))

    report = follow.follow(Retried(None), SPECS[:2], [see], Interruption(print))
    kinds = ["known", "finished", "retried", "finished"]
    assert seen == list(zip(kinds, ["ok", "failed", "failed", "ok"], strict=True))
    assert report.counts() == (2, 0, 0)
    assert report.duration_seconds == 2.5
    assert report.waited_seconds == 60.0
