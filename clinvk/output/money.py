"""Amounts of money and tokens as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clinvk.core.prices import MICROS
from clinvk.core.sanitize import one_line
from clinvk.core.spending import Spending
from clinvk.output.step_lines import short

CENT = MICROS // 100


def usd(spending: Spending) -> str:
    """Return a cost as `$0.42`, `~$0.42` where all of it is estimated, or `-` where none is known.

    Less than a cent has four digits.
    """
    if spending.cost_usd is None:
        return "-"
    mark = "~" if spending.estimated_micro_usd and not spending.cli_micro_usd else ""
    return f"{mark}{dollars(spending.micro_usd)}"


def dollars(micro_usd: int) -> str:
    """Return an amount as `$0.42`; less than a cent has four digits."""
    digits = 4 if 0 < micro_usd < CENT else 2
    return f"${micro_usd / MICROS:,.{digits}f}"


def cost_line(spending: Mapping[str, Spending]) -> Iterator[str]:
    """Yield the line of what a run cost, by backend; none where nothing is known."""
    whole = Spending.sum(spending.values())
    if whole.cost_usd is None and not whole.total_tokens:
        return
    known = {name: each for name, each in spending.items() if each.cost_usd is not None}
    parts = ", ".join(f"{one_line(name)} {usd(each)}" for name, each in sorted(known.items()))
    text = f"Cost: {usd(whole)} ({parts})" if parts else "Cost: unknown"
    text += f", {short(whole.total_tokens)} tokens" if whole.total_tokens else ""
    if whole.unknown and parts:
        text += f", without {whole.unknown} of unknown cost"
    yield text
