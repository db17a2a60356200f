"""A store whose clock is the test's: what takes hours on a fleet takes milliseconds here."""

from __future__ import annotations

from functools import cache
from typing import Any

from clinvk.store.scripts import Operation, operations
from clinvk.store.store import Store

CLOCK_KEY = "test:clock"
EPOCH_SECONDS = 1_800_000_000


class VirtualTimeStore(Store):
    """A store over any server, whose scripts read the time from a key.

    Attributes:
        seconds: the time since the beginning.
    """

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.seconds = 0.0
        self._set_at: float | None = None

    def clear(self) -> None:
        """Empty the server, and begin anew."""
        self.redis.flushall()
        self.seconds, self._set_at = 0.0, None

    @property
    def now_ms(self) -> int:
        """The time as scripts see it."""
        return int((EPOCH_SECONDS + self.seconds) * 1000)

    def call(self, name: str, **arguments: Any) -> Any:
        """Run the script of an operation at this moment."""
        if self._set_at != self.seconds:
            self._set_at = self.seconds
            whole = int(self.seconds)
            micro = int((self.seconds - whole) * 1e6)
            self.redis.set(CLOCK_KEY, f"{EPOCH_SECONDS + whole}:{micro}", ex=86400)
        operation = _with_clock(name)
        return self.redis.eval(operation.text, 0, *operation.arguments(arguments))


@cache
def _with_clock(name: str) -> Operation:
    operation = operations()[name]
    read = f"{{string.match(redis.call('GET', '{CLOCK_KEY}'), '(%d+):(%d+)')}}"
    return Operation(name, operation.parameters, operation.text.replace("redis.call('TIME')", read))
