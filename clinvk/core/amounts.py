"""Amounts as users write them: dollars, and tokens as `500k` or `2M`."""

from __future__ import annotations

import math
import re

from clinvk.core.prices import MICROS, MOST_USD

UNITS = {"": 1, "k": 1000, "m": 1_000_000}
TOKENS_PATTERN = r"\d{1,12}(\.\d{1,6})?[kM]?"
TOKENS_RULE = 'must be a number of tokens above 0, or like "500k", "2M"'
MOST_TOKENS = 10**15


def tokens_of(value: object) -> int:
    """Return a number of tokens.

    Raises:
        ValueError: it is none.
    """
    match value:
        case bool():
            pass
        case int() if 0 < value <= MOST_TOKENS:
            return value
        case str() if re.fullmatch(TOKENS_PATTERN, value, re.ASCII | re.IGNORECASE):
            number = value.rstrip("kKmM")
            tokens = round(float(number) * UNITS[value.removeprefix(number).lower()])
            if 0 < tokens <= MOST_TOKENS:
                return tokens
    raise ValueError(TOKENS_RULE)


def micro_usd_of(value: object) -> int:
    """Return an amount of dollars in millionths.

    Raises:
        ValueError: it is none.
    """
    try:
        amount = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        amount = math.nan
    if isinstance(value, bool) or not 0 < amount <= MOST_USD:
        raise ValueError(
            f"must be an amount in USD above 0, such as 2.50, and at most {MOST_USD:,.0f}"
        )
    return max(1, round(amount * MICROS))
