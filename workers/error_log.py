"""A log of errors that may come again and again: one line for each, not twice a second."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

REPEAT_SECONDS = 600.0
MOST_ERRORS = 1000
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
        self._logged: dict[tuple[str, type, str], _Logged] = {}

    def log(self, doing: str, error: BaseException) -> None:
        """Log that `doing` (a run, a step) failed, unless that was logged a short while ago."""
        name = (doing, type(error), str(error))
        with self._lock:
            before = self._logged.get(name)
            if before is not None and self._clock() < before.at + self._repeat_seconds:
                before.suppressed += 1
                return
            self._logged.pop(name, None)
            self._logged[name] = _Logged(self._clock())
            if len(self._logged) > MOST_ERRORS:
                del self._logged[next(iter(self._logged))]
        what = f"{type(error).__name__}: {error}"
        if before is None:
            self._logger.error("%s: %s", doing, what, exc_info=error)
        else:
            self._logger.error("%s: %s (%d times more)", doing, what, before.suppressed + 1)
