"""A program of its own: prints a model's price as the package genai-prices has it, as JSON.

    python price_list.py MODEL

It prints `null` for a model that the list does not have. The package needs pydantic and the whole
list is 40 MB in memory, so a worker starts this once for each model instead of importing it. Prices
that grow with the length of a prompt are those of short prompts: an agent makes many requests, and
how long each was is not known.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from decimal import Decimal

FIELDS = {"input": "input_mtok", "output": "output_mtok", "cached_input": "cache_read_mtok"}


def price(model: str) -> dict[str, float] | None:
    """Return a model's price in USD per million tokens; None where that is not known."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, found = get_snapshot().find_provider_model(model, None, None, None)
    except LookupError:
        return None
    prices = found.get_prices(datetime.now(UTC))
    values = {name: getattr(prices, field) for name, field in FIELDS.items()}
    plain = {name: float(_base(value)) for name, value in values.items() if value is not None}
    return plain if {"input", "output"} <= plain.keys() else None


def _base(value: object) -> Decimal:
    """Return a price, of several by the length of a prompt the one of short ones."""
    return Decimal(str(getattr(value, "base", value)))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(price(sys.argv[1])))
