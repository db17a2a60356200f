"""What a run waits for, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from clinvk.runs.waiting import describe, is_normal
from clinvk.store.types import Explanation, PendingReason


def explanation(
    running: Mapping[str, int] = {},
    pending: Sequence[tuple[str, int, str]] = (),
    remaining: int | None = None,
    **fields: str | int,
) -> Explanation:
    reasons = [PendingReason(f"clinvk.{name}", count, why) for name, count, why in pending]
    known = sum(running.values()) + sum(reason.count for reason in reasons)
    return Explanation(
        state=str(fields.get("state", "running")),
        remaining=known if remaining is None else remaining,
        running=running,
        dispatched=int(fields.get("dispatched", 0)),
        pending=reasons,
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            explanation({"a@h": 2}, [("claude", 5, "paused")]),
            "2 running on a@h, 5 waiting: queue claude is paused",
        ),
        (
            explanation({}, [("codex", 3, "unserved")]),
            "3 waiting: no live worker serves codex",
        ),
        (
            explanation(
                {"a@h": 1, "b@h": 1, "c@h": 1, "d@h": 4, "e@h": 1},
                [("claude", 1, "limit"), ("codex", 2, "busy")],
            ),
            (
                "8 running on a@h, b@h, c@h and 2 more workers, 1 waiting: queue claude has "
                "reached its limit, 2 waiting: all slots for codex are busy"
            ),
        ),
        (
            explanation({"a@h": 1}, remaining=3),
            "1 running on a@h, 2 to follow",
        ),
        (
            explanation({"a@h": 1}, state="canceled"),
            "1 running on a@h, the run is canceled, running tasks are being stopped",
        ),
        (explanation(dispatched=1, remaining=1), "1 published but not claimed"),
        (explanation(remaining=0), "no task is running or waiting"),
    ],
)
def test_it_is_one_line(given: Explanation, text: str) -> None:
    assert describe(given) == text


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        (explanation({"a@h": 2}), True),
        (explanation({"a@h": 2}, [("a", 5, "run"), ("b", 1, "turn")]), True),
        (explanation({"a@h": 2}, [("a", 5, "paused")]), False),
        (explanation({}, [("a", 5, "busy")]), False),
        (explanation({}), False),
    ],
)
def test_what_only_takes_its_time_is_normal(given: Explanation, *, normal: bool) -> None:
    assert is_normal(given) == normal
