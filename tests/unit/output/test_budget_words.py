"""The line that says that a budget has ended a run, and what goes on with it."""

from __future__ import annotations

from typing import Any

import pytest

from clinvk.core.spec import RunSummary
from clinvk.output.budget_words import ended_by_budget


def line(**fields: Any) -> str | None:
    run = RunSummary(run_id="r", total=10, ok=4, canceled=6, cancel_reason="budget")
    return ended_by_budget(RunSummary(**{**{n: getattr(run, n) for n in run.__slots__}, **fields}))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"max_micro_usd": 2_200_000, "spent_micro_usd": 2_000_000, "budget_of": "run"},
            (
                "the budget is used up: $2.00 of $2.20 spent, 6 tasks were canceled; "
                "clinvk retry r --max-cost 5.8 goes on"
            ),
        ),
        (
            {"budget_of": "clinvk.claude"},
            (
                "today's budget of claude is used up, 6 tasks were canceled; "
                "clinvk retry r goes on after 00:00 UTC"
            ),
        ),
        ({"cancel_reason": "fail_fast"}, None),
    ],
)
def test_it_says_what_was_spent_and_what_goes_on(fields: dict[str, Any], said: str | None) -> None:
    assert line(**fields) == said
