"""A log of errors that may come again and again: one line for each, not twice a second."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

REPEAT_SECONDS = 600.0
MAX_ERRORS = 1000
"""How many distinct errors are remembered; where there are more, the first are logged anew."""


@dataclass(slots=True)
class _Logged:
    at: float
    suppressed: int = 0


class ErrorLog:
    """Logs each distinct error with its traceback, and its repetitions as a count now and then.

    Errors are distinct by what was being done, their type and their text. Safe for use from
    several threads.
    """

    def __init__(
        self,
        logger: logging.Logger,
        repeat_seconds: float = REPEAT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._repeat_seconds = repeat_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._logged: dict[tuple[str, str], _Logged] = {}

    def log(self, doing: str, error: BaseException) -> None:
        """Log that `doing` (a run, a step) failed, unless that was logged a short while ago."""
        what = f"{type(error).__name__}: {error}"
        if (repeated := self._count((doing, what))) is not None:
            self._write(logging.ERROR, doing, what, repeated, None if repeated else error)

    def warn(self, doing: str, what: str) -> None:
        """Do the same for what is known as a text only, and is no error of this process."""
        if (repeated := self._count((doing, what))) is not None:
            self._write(logging.WARNING, doing, what, repeated, None)

    def _count(self, name: tuple[str, str]) -> int | None:
        """Return how often it was not logged since the last time; None where it is not now."""
        with self._lock:
            before = self._logged.get(name)
            if before is not None and self._clock() < before.at + self._repeat_seconds:
                before.suppressed += 1
                return None
            self._logged.pop(name, None)
            self._logged[name] = _Logged(self._clock())
            if len(self._logged) > MAX_ERRORS:
                del self._logged[next(iter(self._logged))]
        return before.suppressed + 1 if before else 0

    def _write(
        self, level: int, doing: str, what: str, repeated: int, error: BaseException | None
    ) -> None:
        times = f" ({repeated} times more)" if repeated else ""
        self._logger.log(level, "%s: %s%s", doing, what, times, exc_info=error)
