"""Ctrl-C and other signals while a run is followed, or whoever follows it has enough."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from clinvk.core.errors import BrokerError
from clinvk.runs.client import Run

CANCEL_AGAIN_SECONDS = 1.0
CANCELING = "Canceling: stopping running tasks, starting no others (interrupt again to exit now)"


class Interruption:
    """What may end a run that is followed: here `cancel`, from any thread, and no signal.

    Attributes:
        number: the signal that it was canceled for, or None.
        detached: whether whoever follows it leaves it alone.
        note: writes a line to the user; must be safe in a signal handler.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self.number: int | None = None
        self.detached = False
        self.note = note
        self._run: Run | None = None

    def __enter__(self) -> Interruption:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the run."""

    def watch(self, run: Run) -> None:
        """Cancel this run when that is asked for, or if it has been already."""
        self._run = run
        if self.number is not None:
            self._cancel(run)

    def cancel(self, number: int = signal.SIGINT) -> None:
        """Cancel the run that is watched, or the one that will be; returns at once."""
        self.number = number
        if self._run is not None:
            # Not here: a signal handler may hold up the very call that it interrupted.
            threading.Thread(target=self._cancel, args=(self._run,), daemon=True).start()

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


class Signals(Interruption):
    """Ctrl-C, SIGTERM and SIGHUP during a run: the first cancels it, the second exits at once.

    SIGQUIT (Ctrl and backslash) detaches from a run that outlives its client.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(note)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in self.NUMBERS:
            # Ignored is what nohup, and a shell's "&" in a script, asked for.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def watch(self, run: Run) -> None:
        """Cancel this run when a signal comes, or if one has come already."""
        if run.outlives_client:
            self._before[signal.SIGQUIT] = signal.signal(signal.SIGQUIT, self._detach)
        super().watch(run)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:
            raise SystemExit(128 + number)
        self.note(CANCELING)
        self.cancel(number)

    def _detach(self, _number: int, _frame: FrameType | None) -> None:
        self.detached = True
