"""The time by the Redis server's clock, which all machines of a fleet have in common.

A worker's own clock may be wrong by an hour. What a CLI says of time ("try again in 34 s") begins
now, and the store holds tasks until a time of its own: both are of the server's clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class ServerClock:
    """Tells the server's time between two answers of it. Safe to use from any thread.

    `elapsed` counts seconds, and is not set back or forth as the machine's own time may be.
    """

    def __init__(self, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._elapsed = elapsed
        self._begin_seconds = time.time() - elapsed()

    def note(self, now_ms: int, asked_at: float) -> None:
        """Take note of what the server answered to a question of the moment `asked_at`."""
        answered_at = (asked_at + self._elapsed()) / 2
        self._begin_seconds = now_ms / 1000 - answered_at

    def seconds(self) -> float:
        """Return the time, in seconds since the epoch; this machine's until the server told it."""
        return self._begin_seconds + self._elapsed()

    @property
    def now_ms(self) -> int:
        """The time in milliseconds since the epoch."""
        return round(self.seconds() * 1000)
