"""Say in one line that a budget has ended a run, and what would go on with it."""

from __future__ import annotations

import math

from clinvk.core.prices import MICROS
from clinvk.core.sanitize import one_line
from clinvk.core.spec import RunSummary, backend_of
from clinvk.output.money import dollars
from clinvk.output.step_lines import short

MARGIN = 1.25
"""By how much more a run is taken to need than its tasks have used on average."""


def ended_by_budget(run: RunSummary) -> str | None:
    """Return the line; None for a run that no budget has ended."""
    if not run.ended_by_budget:
        return None
    retry = f"clinvk retry {run.run_id}"
    if run.cancel_reason == "unknown_cost":
        what = one_line(run.unpriced or "an execution")
        return (
            f"stopped: nobody knows what {what} costs: set prices.{what.partition(':')[0]} in its "
            f"worker's configuration, or {retry} --allow-unknown-cost goes on"
        )
    left = f"{run.canceled} task{'s were' if run.canceled != 1 else ' was'} canceled"
    if run.budget_of not in {None, "run"}:
        return (
            f"today's budget{_of(run.budget_of or '')} is used up, {left}; "
            f"{retry} goes on after 00:00 UTC"
        )
    return f"the budget is used up: {_used(run)}, {left}; {retry} {_more(run)} goes on"


def _of(scope: str) -> str:
    if scope == "all":
        return ""
    return (
        f" of {one_line(scope.removeprefix('key ') if scope[:4] == 'key ' else backend_of(scope))}"
    )


def _used(run: RunSummary) -> str:
    parts = []
    if run.max_micro_usd is not None:
        guessed = run.assumed_micro_usd
        more = f" and about {dollars(guessed)} that nobody counted" if guessed else ""
        parts.append(f"{dollars(run.spent_micro_usd)}{more} of {dollars(run.max_micro_usd)} spent")
    if run.max_total_tokens is not None:
        used = run.spent_tokens + run.assumed_tokens
        parts.append(f"{short(used)} of {short(run.max_total_tokens)} tokens used")
    return ", ".join(parts)


def _more(run: RunSummary) -> str:
    """Return the options that would let the rest of it run, judged by what has run."""
    options = []
    if run.max_micro_usd is not None:
        needed = _needed(run, run.spent_micro_usd + run.assumed_micro_usd, run.max_micro_usd)
        options.append(f"--max-cost {_rounded_up(needed / MICROS):g}")
    if run.max_total_tokens is not None:
        needed = _needed(run, run.spent_tokens + run.assumed_tokens, run.max_total_tokens)
        options.append(f"--max-tokens-total {int(_rounded_up(needed))}")
    return " ".join(options)


def _needed(run: RunSummary, used: int, limit: int) -> float:
    have_run = run.total - run.canceled
    each = used / have_run if have_run else limit
    return max(used + run.canceled * each * MARGIN, limit * MARGIN)


def _rounded_up(amount: float) -> float:
    """Round up to two digits."""
    unit = 10.0 ** (math.floor(math.log10(amount)) - 1)
    return float(f"{math.ceil(amount / unit) * unit:.6g}")
