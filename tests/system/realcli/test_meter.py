"""The provider of the fake API refuses what is beyond its rate, and beyond its window."""

from __future__ import annotations

from tests.meter import Allowance, Meter

NOON = 1_800_000_000.0


def answers(meter: Meter, *seconds: float) -> list[str]:
    refusals = [meter.refusal(NOON + second) for second in seconds]
    return [refusal.kind if refusal else "ok" for refusal in refusals]


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    meter = Meter(Allowance(per_minute=6, burst=3))
    assert answers(meter, 0, 0, 0, 0, 9, 10, 10, 20) == (
        ["ok"] * 3 + ["rate_limited"] * 2 + ["ok", "rate_limited", "ok"]
    )


def test_a_refusal_says_when_a_request_would_be_taken_and_takes_nothing() -> None:
    meter = Meter(Allowance(per_minute=6))
    assert answers(meter, 0) == ["ok"]
    for _ in range(3):
        refusal = meter.refusal(NOON + 4)
        assert refusal is not None
        assert refusal.opens_at == NOON + 10
    assert answers(meter, 10) == ["ok"]


def test_a_window_begins_with_its_first_request() -> None:
    meter = Meter(Allowance(per_window=2, window_seconds=100))
    assert answers(meter, 0, 50, 99, 100, 199, 199) == (["ok", "ok", "usage_limit"] * 2)


def test_a_window_can_last_from_its_first_refusal() -> None:
    meter = Meter(Allowance(per_window=2, window_seconds=100, from_refusal=True))
    assert answers(meter, 0, 150, 300, 399, 400, 401, 402) == (
        ["ok", "ok", "usage_limit", "usage_limit", "ok", "ok", "usage_limit"]
    )


def test_a_window_can_end_with_a_minute() -> None:
    meter = Meter(Allowance(per_window=1, window_seconds=61, to_minute=True))
    assert answers(meter, 0) == ["ok"]
    refusal = meter.refusal(NOON + 1)
    assert refusal is not None
    assert refusal.opens_at == NOON + 120


def test_what_is_not_limited_is_taken() -> None:
    assert answers(Meter(Allowance()), *[0.0] * 100) == ["ok"] * 100
