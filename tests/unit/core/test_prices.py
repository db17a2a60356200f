"""Amounts of money, and what tokens cost."""

from __future__ import annotations

import math

import pytest

from clinvk.core.prices import MOST_USD, Price, micro_usd, plausible
from clinvk.core.spec import Usage

PRICE = Price(input=5, output=25, cached_input=0.5)


def used(**counts: int) -> Usage:
    return Usage(**counts)


@pytest.mark.parametrize(
    ("price", "usage", "cost_usd"),
    [
        (PRICE, used(input_tokens=1_000_000), 5),
        (PRICE, used(input_tokens=1_000_000, output_tokens=10_000, total_tokens=1_010_000), 5.25),
        (PRICE, used(input_tokens=1_000_000, cached_input_tokens=900_000), 0.95),
        (Price(input=5, output=25), used(input_tokens=100, cached_input_tokens=90), 0.0005),
        # Thoughts are in the total alone.
        (PRICE, used(input_tokens=10, output_tokens=5, total_tokens=115), 0.002675),
        # Counts that do not fit each other.
        (PRICE, used(input_tokens=10, cached_input_tokens=99, total_tokens=3), 0.000005),
        (Price(input=0, output=0), used(input_tokens=10, output_tokens=5), 0),
    ],
)
def test_what_tokens_cost(price: Price, usage: Usage, cost_usd: float) -> None:
    assert price.cost_usd(usage) == cost_usd


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (0.0, 0.0),
        (0.0123456789, 0.012346),
        (-0.01, None),
        (math.inf, None),
        (math.nan, None),
        (MOST_USD * 2, None),
    ],
)
def test_what_an_execution_can_have_cost(given: float | None, expected: float | None) -> None:
    assert plausible(given) == expected


def test_sums_of_micro_usd_do_not_depend_on_the_order() -> None:
    costs = [0.1, 0.2, 0.3, 1e-6, 1234.567891, None]
    assert sum(map(micro_usd, costs)) == sum(map(micro_usd, reversed(costs))) == 1_235_167_892
