"""What executions of tasks used: tokens and money, in sums that come out the same in any order."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from clinvk.core.prices import MICROS, micro_usd
from clinvk.core.spec import TaskResult, Try, Usage

MOST_TOKENS = 10**12
"""A CLI that counts more in one execution is not believed beyond that: sums stay whole numbers."""
NO_USAGE = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What some executions used.

    `executions` counts them, and `unknown` those of which nobody knows what they cost. Costs are
    in millionths of a dollar: what CLIs said, and what was estimated.
    """

    executions: int = 0
    unknown: int = 0
    cli_micro_usd: int = 0
    estimated_micro_usd: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0

    @classmethod
    def of(cls, execution: TaskResult | Try) -> Self:
        """Return what one execution used; nothing where none is to be paid."""
        source, usage = execution.cost_source, execution.usage or NO_USAGE
        if source is None:
            return cls()
        if source == "unknown" and execution.usage is None:
            return cls(executions=1, unknown=1)
        micros = micro_usd(execution.cost_usd)
        return cls(
            executions=1,
            unknown=int(source == "unknown"),
            cli_micro_usd=micros if source == "cli" else 0,
            estimated_micro_usd=micros if source == "estimated" else 0,
            input_tokens=min(usage.input_tokens, MOST_TOKENS),
            cached_input_tokens=min(usage.cached_input_tokens, MOST_TOKENS),
            output_tokens=min(usage.output_tokens, MOST_TOKENS),
            total_tokens=min(usage.total_tokens, MOST_TOKENS),
        )

    @classmethod
    def sum(cls, parts: Iterable[Self]) -> Self:
        """Add some up."""
        whole = cls()
        for part in parts:
            whole += part
        return whole

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote.

        Raises:
            ValueError: it is nothing of that kind.
        """
        return cls(**dict(zip(NAMES, map(int, text.split(",")), strict=True)))

    def __str__(self) -> str:
        return ",".join(map(str, self._values()))

    def __add__(self, other: Self) -> Self:
        sums = map(operator.add, self._values(), other._values())
        return type(self)(**dict(zip(NAMES, sums, strict=True)))

    def __sub__(self, other: Self) -> Self:
        pairs = zip(self._values(), other._values(), strict=True)
        return type(self)(**dict(zip(NAMES, (mine - its for mine, its in pairs), strict=True)))

    def _values(self) -> list[int]:
        return [getattr(self, name) for name in NAMES]

    @property
    def micro_usd(self) -> int:
        """The cost as far as it is known, in millionths of a dollar."""
        return self.cli_micro_usd + self.estimated_micro_usd

    @property
    def cost_usd(self) -> float | None:
        """The cost as far as it is known; None where nothing of it is."""
        if self.executions == self.unknown:
            return None
        return self.micro_usd / MICROS

    @property
    def usage(self) -> Usage | None:
        """The tokens; None where none were counted."""
        usage = Usage(
            input_tokens=self.input_tokens,
            cached_input_tokens=self.cached_input_tokens,
            output_tokens=self.output_tokens,
            total_tokens=self.total_tokens,
        )
        return usage if usage != NO_USAGE else None


NAMES = tuple(entry.name for entry in dataclasses.fields(Spending))
LOST = Spending(executions=1, unknown=1)
"""What is known of an execution whose worker was lost."""


def by_backend(backend: str, result: TaskResult) -> Iterator[tuple[str, Spending]]:
    """Yield what a task of this backend used, by the backend that ran it; a name may come twice."""
    lost = max(0, result.attempts - 1)
    if lost:
        yield backend, Spending(executions=lost, unknown=lost)
    executions: list[TaskResult | Try] = [result, *result.tried]
    for execution in executions:
        if execution.cost_source is not None:
            yield execution.backend or backend, Spending.of(execution)
