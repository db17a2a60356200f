"""Follow a run to its end, let the user interrupt it, and make its report."""

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
"""Events that observers do not get: they are noted on stderr at once, or not at all."""

Observer = Callable[[Event], None]

CANCELING = "Canceling: stopping running tasks, starting no others (interrupt again to exit now)"


class Interruption:
    """Ctrl-C, SIGTERM and SIGHUP during a run: the first cancels it, the second exits at once.

    SIGQUIT (Ctrl and backslash) detaches from a run that outlives its client.

    Attributes:
        number: the first signal that came, or None.
        detached: whether SIGQUIT came.
        note: writes a line to the user; must be safe in a signal handler.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, note: Callable[[str], None]) -> None:
        self.number: int | None = None
        self.detached = False
        self.note = note
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
        self.note(CANCELING)
        if self._run is not None:
            # Not here: a signal handler may hold up the very call that it interrupted.
            threading.Thread(target=self._cancel, args=(self._run,), daemon=True).start()

    def _detach(self, _number: int, _frame: FrameType | None) -> None:
        self.detached = True

    def _cancel(self, run: Run) -> None:
        """Cancel the run, trying again while the broker of a fleet cannot be reached."""
        is_noted = False
        while True:
            try:
                run.cancel("interrupted")
            except BrokerError as error:
                if not is_noted:
                    self.note(f"clinvk: cannot cancel the run yet: {error}")
                is_noted = True
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
        BrokerLostError: the broker was lost during the run; has the report as far as it is known.
        DetachedError: the user detached from the run.
    """
    results = _Results(len(specs))
    first_ms = _now_ms()
    problem: ClinvkError | None = None
    notices = _Notices(interruption)
    try:
        for event in run.events():
            if interruption.detached:
                raise DetachedError
            notices.saw(event)
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
        result = TaskResult.unknown(index, str(problem or "its result never arrived"))
        results[index] = result
        for observer in observers:
            observer(Event(kind="finished", at_ms=last_ms, index=index, result=result))
    report = Report(
        run_id=run.id,
        specs=specs,
        results=results,
        status_counts=results.status_counts,
        warned=results.warned,
        started_ms=first_ms,
        ended_ms=last_ms,
    )
    if problem is not None:
        raise BrokerLostError(str(problem), report) from problem
    return report


class _Notices:
    """Notes when the broker cannot be reached, when it can again, and what a run waits for."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption
        self._is_lost = False

    def saw(self, event: Event) -> None:
        """Take note of an event."""
        was_lost, self._is_lost = self._is_lost, event.kind == "away"
        if self._is_lost and not was_lost:
            self._interruption.note(f"clinvk: {event.why}; the run continues, retrying")
        elif was_lost and not self._is_lost:
            self._interruption.note("clinvk: the broker can be reached again")
        if event.kind == "waiting":
            self._interruption.note(f"clinvk: {event.why}")
        elif event.kind == "repaired":
            self._interruption.note(f"clinvk: repaired the run's record: {event.why}")


class _Results(Spool[TaskResult]):
    """A run's results as they come, their counts by status, and which of them have warnings."""

    def __init__(self, count: int) -> None:
        super().__init__(TaskResult, count=count)
        self.status_counts = Counter[TaskStatus]()
        self.warned = set[int]()

    def __setitem__(self, index: int, result: TaskResult) -> None:
        self.status_counts[result.status] += 1
        if result.warnings:
            self.warned.add(index)
        super().__setitem__(index, result)


class DetachedError(ClinvkError):
    """The user detached from a run, which continues."""


class BrokerLostError(BrokerError):
    """The broker was lost during a run.

    Attributes:
        report: the results that are known; all other tasks are LOST.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def _now_ms() -> int:
    """Return this machine's time, where the broker's cannot be had."""
    return time.time_ns() // 1_000_000
