"""What an error means: its kind, and when to try again. Shared by the backends.

A limit opens again by itself (`rate_limited` within minutes, `usage_limit` with its window), passes
with the load of the service (`overloaded`), or needs a person (`quota`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from clinvk.backends.base import ParsedOutput
from clinvk.backends.parsing import excerpt
from clinvk.core.spec import ErrorKind

Kinds = Sequence[tuple[str, ErrorKind]]
"""Patterns in messages, without regard to case, and what each means. The first one counts."""

LIMITS = frozenset(
    {ErrorKind.RATE_LIMITED, ErrorKind.USAGE_LIMIT, ErrorKind.OVERLOADED, ErrorKind.QUOTA}
)
"""Kinds of errors that have nothing to do with the task."""

LONGEST_BURST = timedelta(minutes=5)
"""A rate limit that opens later is one of a longer window."""

_EXHAUSTED: Kinds = (
    (r"insufficient[_ ]quota|quota exceeded|exceeded your (\w+ )?quota", ErrorKind.QUOTA),
    (r"out of credits|credit balance|spend(ing)? (cap|limit)|billing", ErrorKind.QUOTA),
    (r"usage limit", ErrorKind.USAGE_LIMIT),
)
COMMON: Kinds = (
    *_EXHAUSTED,
    (r"rate.?limit|too many requests|\b429\b", ErrorKind.RATE_LIMITED),
    (r"overloaded|at capacity|high demand|service unavailable", ErrorKind.OVERLOADED),
    (r"\b(status|error|code|http)\W*5\d\d\b", ErrorKind.OVERLOADED),
    (r"connection.?refused|ECONNREFUSED", ErrorKind.OVERLOADED),
)
_MODEL_LIMIT = re.compile(
    r"on this model\b|switch (to another model|models)\b|rate limit reached for \S+ in ",
    re.IGNORECASE,
)
"""Words for a limit that other models of the same account do not share."""
_NO_CAPACITY = re.compile(
    r"\b(at|no) capacity|capacity\b.*\bunavailable|\b529\b|overloaded|high load",
    re.IGNORECASE,
)
"""Words for a service that works, and has more to do than it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an error means; `retry_at` is when its limit opens, in UTC, where that is known.

    `limited_model` and `at_capacity` are as in `ParsedOutput`.
    """

    kind: ErrorKind
    retry_at: datetime | None = None
    limited_model: bool = False
    at_capacity: bool = False

    def delay_seconds(self, at: datetime | None) -> float | None:
        """Return how long after `at` that is."""
        return (self.retry_at - at).total_seconds() if self.retry_at and at else None


def first_kind(message: str, patterns: Kinds) -> ErrorKind | None:
    """Return the kind of the first pattern that a message has; None if it has none."""
    found = (kind for pattern, kind in patterns if re.search(pattern, message, re.IGNORECASE))
    return next(found, None)


def kind_of_text(message: str, patterns: Kinds) -> ErrorKind | None:
    """Return the kind whose pattern a message has: of these patterns, or else of `COMMON`."""
    return first_kind(message, (*patterns, *COMMON))


def kind_of_status(status: int, message: str) -> ErrorKind:
    """Return the kind of error that an HTTP status of a model API stands for."""
    if status >= 500:
        return ErrorKind.OVERLOADED
    match status:
        case 401:
            return ErrorKind.AUTH
        case 402:
            return ErrorKind.QUOTA
        case 413:
            return ErrorKind.TOO_LARGE
    if exhausted := first_kind(message, _EXHAUSTED):
        return exhausted
    match status:
        case 429:
            return ErrorKind.RATE_LIMITED
        case 403:
            return ErrorKind.AUTH
        case 400 | 404 | 422:
            return ErrorKind.INVALID
        case _:
            return ErrorKind.FAILED


def outcome(
    message: str, kind: ErrorKind, at: datetime | None, opens_at: datetime | None = None
) -> Outcome:
    """Add to an error's kind when its limit opens, where the message says so.

    `at` is when the message was printed; without it, no time is understood. `opens_at` is what the
    API said beside the message, and counts before it. Money that comes back by itself is a usage
    limit, and so is a rate that opens much later.
    """
    retry_at = None
    if at is not None and kind in LIMITS:
        retry_at = opens_at.astimezone(UTC) if opens_at else _reset_time(message, at)
    if retry_at is not None and at is not None and _is_window(kind, retry_at - at):
        kind = ErrorKind.USAGE_LIMIT
    return Outcome(
        kind=kind,
        retry_at=retry_at,
        limited_model=kind is ErrorKind.USAGE_LIMIT and _MODEL_LIMIT.search(message) is not None,
        at_capacity=kind is ErrorKind.OVERLOADED and _NO_CAPACITY.search(message) is not None,
    )


def _is_window(kind: ErrorKind, opens_in: timedelta) -> bool:
    return kind is ErrorKind.QUOTA or (kind is ErrorKind.RATE_LIMITED and opens_in > LONGEST_BURST)


def failure(message: str, outcome: Outcome | ErrorKind, **known: Any) -> ParsedOutput:
    """Return an answer that is an error, with what is known of the attempt."""
    if isinstance(outcome, ErrorKind):
        outcome = Outcome(kind=outcome)
    return ParsedOutput(
        error=excerpt(message) or "failed",
        error_kind=outcome.kind,
        retry_at=outcome.retry_at,
        limited_model=outcome.limited_model,
        at_capacity=outcome.at_capacity,
        **known,
    )


def _reset_time(message: str, at: datetime) -> datetime | None:
    from clinvk.backends.reset_times import reset_time  # its patterns take a while to compile

    return reset_time(message, at)
