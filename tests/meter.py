"""What a provider allows: a token bucket of requests, and so many of them in a window.

A request that is refused takes nothing from either.
"""

from __future__ import annotations

import fcntl
import json
import math
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MINUTE = 60.0


@dataclass(frozen=True)
class Allowance:
    """`per_minute` requests, `burst` of them at once; `per_window` in each window; None for all.

    A window begins with the first request after the one before it, and lasts for `window_seconds`;
    with `from_refusal`, for so long after the first one that it refuses. With `to_minute`, it goes
    on to the end of the minute: one CLI names no seconds.
    """

    per_minute: float | None = None
    burst: int = 1
    per_window: int | None = None
    window_seconds: float = 0.0
    from_refusal: bool = False
    to_minute: bool = False


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused: `rate_limited` or `usage_limit`, and when it would not be."""

    kind: str
    opens_at: float


@dataclass
class State:
    """What is left of an allowance: whole and parts of tokens, and what the window has used."""

    tokens: float
    filled_at: float = 0.0
    used: int = 0
    window_ends_at: float = 0.0


class Meter:
    """Counts the requests to a provider. Times are seconds since the epoch."""

    def __init__(self, allowance: Allowance, state: State | None = None) -> None:
        self.state = state or State(float(allowance.burst))
        self._allowed = allowance
        self._lock = threading.Lock()

    def refusal(self, now: float) -> Refusal | None:
        """Take a request; or return why it is refused."""
        with self._lock:
            if self._is_used_up(now):
                if self.state.window_ends_at == math.inf:
                    self.state.window_ends_at = self._end_of_window(now)
                return Refusal("usage_limit", self.state.window_ends_at)
            if (seconds := self._until_token(now)) > 0:
                return Refusal("rate_limited", now + seconds)
            self._take(now)
            return None

    def _is_used_up(self, now: float) -> bool:
        most = self._allowed.per_window
        return most is not None and now < self.state.window_ends_at and self.state.used >= most

    def _until_token(self, now: float) -> float:
        """Fill the bucket; returns for how many seconds it has no whole token."""
        rate, state = self._allowed.per_minute, self.state
        if rate is None:
            return 0.0
        filled = (now - state.filled_at) * rate / MINUTE
        state.tokens = min(float(self._allowed.burst), state.tokens + filled)
        state.filled_at = now
        return max(0.0, (1 - state.tokens) * MINUTE / rate)

    def _take(self, now: float) -> None:
        self.state.tokens -= 1
        if now >= self.state.window_ends_at:
            self.state.used = 0
            is_open = self._allowed.from_refusal
            self.state.window_ends_at = math.inf if is_open else self._end_of_window(now)
        self.state.used += 1

    def _end_of_window(self, now: float) -> float:
        end = now + self._allowed.window_seconds
        return (
            math.ceil(end / MINUTE) * MINUTE if self._allowed.to_minute else float(math.ceil(end))
        )


class MeterFile:
    """A meter in a file, which the requests of several processes share."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, allowance: Allowance) -> None:
        """Begin with all of an allowance."""
        self._path.write_text(json.dumps({"allowance": asdict(allowance), "state": None}))

    def refusal(self, now: float) -> Refusal | None:
        """Take a request; or return why it is refused."""
        with self._path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            kept = json.load(file)
            state = kept["state"] and State(**kept["state"])
            meter = Meter(Allowance(**kept["allowance"]), state)
            refusal = meter.refusal(now)
            kept["state"] = asdict(meter.state)
            file.seek(0)
            file.truncate()
            json.dump(kept, file)
        return refusal


def meters(allowances: dict[str, dict[str, Any]]) -> dict[str, Meter]:
    """Make the meters of some CLIs, by their names, from JSON."""
    return {name: Meter(Allowance(**fields)) for name, fields in allowances.items()}
