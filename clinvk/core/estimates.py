"""What executions used, as histograms, and what one more is likely to use."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from clinvk.core.spec import TaskSpec

FINE = 8
"""How many numbers a histogram has for each doubling, as in lua/lib/ledger.lua."""
ENTRY = re.compile(r" ([ct])(\d{1,4}):(\d{1,15})(?![^ ])")
MARK = "~"
"""What the names of histograms in a ledger begin with: `~backend:model`, `~backend:` for all."""
HALF, MOST = 0.5, 0.9
"""The parts of executions that an estimate is about."""


def histogram_name(backend: str, model: str = "") -> str:
    """Return what a histogram is called in a ledger."""
    return f"{MARK}{backend}:{model}"


@dataclass(slots=True)
class Histogram:
    """Costs, in millionths of a dollar, and tokens of single executions: counts by size."""

    costs: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)

    def add(self, text: str) -> None:
        """Add what a ledger says; what cannot be read of it is passed over."""
        for letter, number, count in ENTRY.findall(text):
            sizes = self.costs if letter == "c" else self.tokens
            sizes[int(number)] += int(count)

    def dump(self) -> str:
        """Write it as a ledger has it."""
        return "".join(
            f" {letter}{number}:{count}"
            for letter, sizes in (("c", self.costs), ("t", self.tokens))
            for number, count in sorted(sizes.items())
        )


def quantile(sizes: Counter[int], part: float) -> int | None:
    """Return the size that this part of executions did not go over; None where there are none."""
    below, total = 0, sizes.total()
    for number, count in sorted(sizes.items()):
        below += count
        if below >= part * total:
            return math.ceil(2 ** ((number - 0.5) / FINE)) if number else 0
    return None


@dataclass(frozen=True, slots=True)
class Range:
    """What half of such executions did not go over, and what nine of ten did not."""

    half: int
    most: int

    @classmethod
    def of(cls, sizes: Counter[int]) -> Range | None:
        """Return the range of these sizes; None where there are none."""
        half, most = quantile(sizes, HALF), quantile(sizes, MOST)
        return None if half is None or most is None else cls(half, most)

    def plus(self, other: Range) -> Range:
        """Return the sums."""
        return Range(self.half + other.half, self.most + other.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one execution is likely to cost and use, from so many; None is what nobody knows."""

    micro_usd: Range | None = None
    tokens: Range | None = None
    executions: int = 0


@dataclass(slots=True)
class Total:
    """What several tasks are likely to use together; `unknown` of them are in neither sum.

    Halves are added up, and so is what nine of ten did not go over: the sum of the latter is more
    than nine of ten such runs would use.
    """

    micro_usd: Range = Range(0, 0)
    tokens: Range = Range(0, 0)
    tasks: int = 0
    unknown_cost: int = 0
    unknown_tokens: int = 0

    def add(self, estimate: Estimate) -> None:
        """Add one task."""
        self.tasks += 1
        if estimate.micro_usd is None:
            self.unknown_cost += 1
        else:
            self.micro_usd = self.micro_usd.plus(estimate.micro_usd)
        if estimate.tokens is None:
            self.unknown_tokens += 1
        else:
            self.tokens = self.tokens.plus(estimate.tokens)


class Estimates:
    """Estimates from histograms by name, as ledgers have them; each name may come several times."""

    def __init__(self, ledgers: Iterable[Mapping[str, str]]) -> None:
        self._histograms: dict[str, Histogram] = {}
        for ledger in ledgers:
            for name, text in ledger.items():
                if name.startswith(MARK):
                    self._histograms.setdefault(name, Histogram()).add(text)

    def dump(self) -> dict[str, str]:
        """Return the sums as one ledger has them."""
        return {name: histogram.dump() for name, histogram in self._histograms.items()}

    def total(self, specs: Iterable[TaskSpec]) -> Total:
        """Return what tasks are likely to use together, each run once."""
        total = Total()
        for spec in specs:
            total.add(self.of(spec.backend, spec.model))
        return total

    def of(self, backend: str, model: str | None) -> Estimate:
        """Return what a task is likely to use: as others of its model, or else of its backend."""
        empty = Histogram()
        own = self._histograms.get(histogram_name(backend, model or ""), empty)
        every = self._histograms.get(histogram_name(backend), empty)
        costs, tokens = own.costs or every.costs, own.tokens or every.tokens
        return Estimate(
            micro_usd=Range.of(costs),
            tokens=Range.of(tokens),
            executions=max(costs.total(), tokens.total()),
        )
