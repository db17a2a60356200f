"""Follow a run to its end, let a person interrupt it, and make the report."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from clinvk.core.errors import BrokerError, ClinvkError, WireError
from clinvk.core.spec import TaskResult, TaskSpec, TaskStatus
from clinvk.runs.client import Event, Run
from clinvk.runs.report import Report
from clinvk.runs.spool import Spool

CANCEL_AGAIN_SECONDS = 1.0
NOT_OBSERVED = frozenset({"idle", "away", "waiting", "repaired"})
"""Events that are told to the person at once, or not at all."""

Observer = Callable[[Event], None]

CANCELING = (
    "Canceling: nothing new starts, running tasks are being stopped (again to leave at once)"
)


class Interruption:
    """Ctrl-C, SIGTERM and SIGHUP while a run goes on: once cancels it, twice leaves at once.

    A run that outlives its client can also be left alone, with SIGQUIT (Ctrl and backslash).

    Attributes:
        number: the first signal that came, or None.
        detached: whether the person asked to leave the run alone (SIGQUIT).
        tell: writes a line for the person who sent it; a display may take this over.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.number: int | None = None
        self.detached = False
        self.tell = tell
        self._run: Run | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        for number in self.SIGNALS:
            # Ignored is what nohup, and a shell's "&" in a script, asked for.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def watch(self, run: Run) -> None:
        """Cancel this run when a signal comes, or if one has come already."""
        self._run = run
        if run.outlives_client:
            self._before[signal.SIGQUIT] = signal.signal(signal.SIGQUIT, self._detach)
        if self.number is not None:
            self._cancel(run)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:
            raise SystemExit(128 + number)
        self.number = number
        self.tell(CANCELING)
        if self._run is not None:
            # Not here: a signal handler may hold up the very call that it interrupted.
            threading.Thread(target=self._cancel, args=(self._run,), daemon=True).start()

    def _detach(self, _number: int, _frame: FrameType | None) -> None:
        self.detached = True

    def _cancel(self, run: Run) -> None:
        """Cancel the run, as soon as its broker can be told."""
        is_told = False
        while True:
            try:
                run.cancel("interrupted")
            except BrokerError as error:
                if not is_told:
                    self.tell(f"clinvk: the run cannot be canceled yet: {error}")
                is_told = True
                if not run.outlives_client:
                    return
                time.sleep(CANCEL_AGAIN_SECONDS)
            else:
                return


def follow(
    run: Run,
    specs: Sequence[TaskSpec],
    observers: Sequence[Observer],
    interruption: Interruption,
) -> Report:
    """Follow a run to its end. Each observer sees each event.

    Raises:
        LostTouchError: the broker was lost on the way; has the report as far as it got.
        DetachedError: the run was left alone before its end.
    """
    results = _Results(len(specs))
    first_ms = _now_ms()
    problem: ClinvkError | None = None
    touch = _Touch(interruption)
    try:
        for event in run.events():
            if interruption.detached:
                raise DetachedError
            touch.saw(event)
            if event.kind in NOT_OBSERVED:
                continue
            last_ms = event.at_ms
            if event.result is not None:
                results[event.index] = event.result
            for observer in observers:
                observer(event)
        summary = run.summary()
        first_ms, last_ms = summary.created_ms, summary.ended_ms or last_ms
    except (BrokerError, WireError) as error:
        problem = error
        last_ms = _now_ms()
    for index in results.missing():
        result = TaskResult.unknown(index, str(problem or "its result never came"))
        results[index] = result
        for observer in observers:
            observer(Event(kind="finished", at_ms=last_ms, index=index, result=result))
    report = Report(
        run_id=run.id,
        specs=specs,
        results=results,
        outcomes=results.outcomes,
        warned=results.warned,
        started_ms=first_ms,
        ended_ms=last_ms,
    )
    if problem is not None:
        raise LostTouchError(str(problem), report) from problem
    return report


class _Touch:
    """Tells the person when the broker cannot be reached, and when it can again."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption
        self._is_lost = False

    def saw(self, event: Event) -> None:
        """Take note of an event."""
        was_lost, self._is_lost = self._is_lost, event.kind == "away"
        if self._is_lost and not was_lost:
            self._interruption.tell(f"clinvk: {event.why}; the run goes on, trying again")
        elif was_lost and not self._is_lost:
            self._interruption.tell("clinvk: in touch with the broker again")
        if event.kind == "waiting":
            self._interruption.tell(f"clinvk: {event.why}")
        elif event.kind == "repaired":
            self._interruption.tell(f"clinvk: the run's record was repaired: {event.why}")


class _Results(Spool[TaskResult]):
    """A run's results as they come, each once, how many ended how, and which have warnings."""

    def __init__(self, count: int) -> None:
        super().__init__(TaskResult, count=count)
        self.outcomes = Counter[TaskStatus]()
        self.warned = set[int]()

    def __setitem__(self, index: int, result: TaskResult) -> None:
        self.outcomes[result.status] += 1
        if result.warnings:
            self.warned.add(index)
        super().__setitem__(index, result)


class DetachedError(ClinvkError):
    """Whoever watched a run left it alone."""


class LostTouchError(BrokerError):
    """The broker was lost in the middle of a run.

    Attributes:
        report: the run as far as it was known; what was not is lost.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def _now_ms() -> int:
    """Return this machine's time, where the broker's cannot be had."""
    return time.time_ns() // 1_000_000
