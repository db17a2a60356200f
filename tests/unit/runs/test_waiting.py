"""What a run waits for, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from clinvk.core.requirements import NOTHING, Requirements
from clinvk.runs.waiting import describe, is_normal, waits
from clinvk.store.types import Explanation, PendingReason

GPU = Requirements.of({"claude": ">=2.1", "codex": "<1", "tags": ["gpu"]})


def explanation(
    running: Mapping[str, int] = {},
    pending: Sequence[tuple[str, int, str]] = (),
    remaining: int | None = None,
    requires: Requirements = NOTHING,
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
        requires=requires,
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
        (
            explanation(
                {}, [("claude", 3, "unmet"), ("claude|codex", 2, "occupied")], requires=GPU
            ),
            (
                "3 waiting: no live worker that serves claude has what the run requires (claude "
                ">=2.1, tags gpu), 2 waiting: all workers for claude|codex that have what the run "
                "requires are busy (claude >=2.1, codex <1, tags gpu)"
            ),
        ),
        (explanation(dispatched=1, remaining=1), "1 published but not claimed"),
        (explanation(remaining=0), "no task is running or waiting"),
    ],
)
def test_it_is_one_line(given: Explanation, text: str) -> None:
    assert describe(given) == text


NOW_MS = 1_893_456_000_000  # 2030-01-01T00:00:00Z


def limited(
    until_ms: int | None, reason: str = "limited", kind: str = "usage_limit"
) -> Explanation:
    pending = PendingReason("clinvk.claude", 37, reason, "", until_ms, kind, "a@h")
    of_model = replace(pending, model="opus", count=2)
    return Explanation(state="running", remaining=39, pending=[pending, of_model], now_ms=NOW_MS)


@pytest.mark.usefixtures("east")
@pytest.mark.parametrize(
    ("given", "texts", "why"),
    [
        (
            limited(NOW_MS + 720_000),
            "claude: limited until 2030-01-01 02:12 (in 12 min), 37 waiting",
            "claude is limited until 2030-01-01 02:12 (in 12 min), usage limit",
        ),
        (
            limited(NOW_MS + 6 * 3_600_000 + 300_000),
            "claude: limited until 2030-01-01 08:05 (in 6h 5m), 37 waiting",
            "claude is limited until 2030-01-01 08:05 (in 6h 5m), usage limit",
        ),
        (
            limited(NOW_MS - 1000, kind="rate_limited"),
            "claude: limited until one task has tried, 37 waiting",
            "claude is limited until one task has tried, rate limit",
        ),
        (
            limited(NOW_MS + 30_000, "held", ""),
            "claude: tried again at 2030-01-01 02:00 (in 30 s), 37 waiting",
            "claude is to be tried again at 2030-01-01 02:00",
        ),
        (limited(None), None, "claude has reached what its provider allows just now"),
        (
            limited(NOW_MS + 720_000, "paused", ""),
            None,
            "queue claude is paused until 2030-01-01 02:12",
        ),
    ],
)
def test_what_waits_for_a_time(given: Explanation, texts: str | None, why: str) -> None:
    assert describe(given).startswith(f"37 waiting: {why}, 2 waiting: ")
    found = waits(given)
    assert [wait.texts()[0] for wait in found[:1]] == ([texts] if texts else [])
    assert [wait.name for wait in found] == (["claude", "claude:opus"] if texts else [])


@pytest.mark.usefixtures("east")
def test_it_counts_down_and_may_be_said_in_fewer_words() -> None:
    (wait, _) = waits(limited(NOW_MS + 720_000))
    assert wait.texts(660_000) == (
        "claude: limited until 2030-01-01 02:12 (in 60 s), 37 waiting",
        "claude: limited until 2030-01-01 02:12, 37 waiting",
        "claude: limited until 2030-01-01 02:12",
    )


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
