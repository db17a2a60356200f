"""What tokens cost, and amounts of money.

Amounts are summed as whole millionths of a dollar (`micro_usd`), so that every sum over the same
executions is the same to the last digit, in whatever order they ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from clinvk.core.spec import Usage

MICROS = 1_000_000
"""Millionths of a dollar in a dollar."""
MOST_USD = 1_000_000.0
"""A CLI that reports more for one execution is not believed."""


def micro_usd(cost_usd: float | None) -> int:
    """Return an amount in whole millionths of a dollar; 0 where it is not known."""
    return 0 if cost_usd is None else round(cost_usd * MICROS)


def plausible(cost_usd: float | None) -> float | None:
    """Return an amount that an execution can have cost, with six digits; None for any other."""
    if cost_usd is None or not math.isfinite(cost_usd) or not 0 <= cost_usd <= MOST_USD:
        return None
    return round(cost_usd, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model's tokens cost, in USD per million; None where cached input costs the same."""

    input: float
    output: float
    cached_input: float | None = None

    @classmethod
    def parse(cls, given: Mapping[str, float]) -> Self:
        """Make a price of its fields.

        Raises:
            TypeError: one is missing, or none of these.
        """
        return cls(**given)

    def cost_usd(self, usage: Usage) -> float:
        """Return what these tokens cost.

        What is neither input nor answer, such as thoughts that some CLIs count in the total alone,
        is paid like an answer.
        """
        written = max(usage.output_tokens, usage.total_tokens - usage.input_tokens)
        cached = min(usage.cached_input_tokens, usage.input_tokens)
        cached_price = self.input if self.cached_input is None else self.cached_input
        micros = (
            (usage.input_tokens - cached) * self.input
            + cached * cached_price
            + written * self.output
        )
        return round(micros) / MICROS
