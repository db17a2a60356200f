"""What a provider allows: a token bucket of requests, and so many of them in a window.

A request that is refused takes nothing from either.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

MINUTE = 60.0


@dataclass(frozen=True)
class Allowance:
    """`per_minute` requests, `burst` of them at once; `per_window` in each window; None for all.

    A window begins with the first request after the one before it, and lasts for `window_seconds`;
    with `to_minute`, on to the end of the minute: one CLI names no seconds.
    """

    per_minute: float | None = None
    burst: int = 1
    per_window: int | None = None
    window_seconds: float = 0.0
    to_minute: bool = False


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused: `rate_limited` or `usage_limit`, and when it would not be."""

    kind: str
    opens_at: float


class Meter:
    """Counts the requests to a provider. Times are seconds since the epoch."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowed = allowance
        self._lock = threading.Lock()
        self._tokens = float(allowance.burst)
        self._filled_at = 0.0
        self._used = 0
        self._window_ends_at = 0.0

    def refusal(self, now: float) -> Refusal | None:
        """Take a request; or return why it is refused."""
        with self._lock:
            if self._is_used_up(now):
                return Refusal("usage_limit", self._window_ends_at)
            if (seconds := self._until_token(now)) > 0:
                return Refusal("rate_limited", now + seconds)
            self._take(now)
            return None

    def _is_used_up(self, now: float) -> bool:
        most = self._allowed.per_window
        return most is not None and now < self._window_ends_at and self._used >= most

    def _until_token(self, now: float) -> float:
        """Fill the bucket; returns for how many seconds it has no whole token."""
        if self._allowed.per_minute is None:
            return 0.0
        filled = (now - self._filled_at) * self._allowed.per_minute / MINUTE
        self._tokens = min(float(self._allowed.burst), self._tokens + filled)
        self._filled_at = now
        return max(0.0, (1 - self._tokens) * MINUTE / self._allowed.per_minute)

    def _take(self, now: float) -> None:
        self._tokens -= 1
        if now >= self._window_ends_at:
            self._used = 0
            self._window_ends_at = self._end_of_window(now)
        self._used += 1

    def _end_of_window(self, now: float) -> float:
        end = now + self._allowed.window_seconds
        return (
            math.ceil(end / MINUTE) * MINUTE if self._allowed.to_minute else float(math.ceil(end))
        )


def meters(allowances: dict[str, dict[str, Any]]) -> dict[str, Meter]:
    """Make the meters of some CLIs, by their names, from JSON."""
    return {name: Meter(Allowance(**fields)) for name, fields in allowances.items()}
