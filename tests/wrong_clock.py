"""A Python process whose clock is wrong, as that of a machine is that nobody sets.

    env["PYTHONPATH"] = at_start.python_path(folder, wrong_clock.at_start(3600))

Clocks that only measure how long something takes are right.
"""

from __future__ import annotations

import datetime
import time
from typing import Any, Self


def at_start(seconds: float) -> str:
    """Return what a process does at its start whose clock is so many seconds ahead."""
    return f"from tests import wrong_clock; wrong_clock.install({seconds!r})"


def install(seconds: float) -> None:
    """Set the clock of this process ahead."""
    right, right_ns = time.time, time.time_ns

    class Wrong(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Self:
            return cls.fromtimestamp(time.time(), tz)

    time.time = lambda: right() + seconds
    time.time_ns = lambda: right_ns() + int(seconds * 1e9)
    module: Any = datetime
    module.datetime = Wrong
