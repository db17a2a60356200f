"""What a private server cannot know of budgets: what this machine's other runs have used."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from clinvk.core.estimates import Estimates
from clinvk.core.spec import queue_of
from clinvk.store import decoding
from clinvk.store.types import DAY_MS

if TYPE_CHECKING:
    from clinvk.local.records import Records
    from clinvk.store.store import Store

NEWEST = 1000
"""How many local runs are looked at for what was spent today, and what tasks use."""

Ledgers = list[tuple[str, Mapping[str, str]]]
"""Runs, the newest first, and what each has used."""


def ledgers(records: Records) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the ledgers of this machine's local runs, the newest first."""
    for summary in records.newest(NEWEST):
        if summary.ledger:
            yield summary.run.run_id, summary.ledger


def tell(
    store: Store, records: Records, run: str, limits: Mapping[str, int], *, has_own: bool
) -> None:
    """Set the budgets of a day on the server of a run, and tell it what the other runs have used.

    With `has_own`, the run has a budget of its own, for which estimates are needed, too.

    Raises:
        redis.RedisError: the server does not answer.
    """
    others: Ledgers = []
    if limits or has_own:
        others = [each for each in ledgers(records) if each[0] != run]
    store.set_budgets(limits, used_today(others) if limits else None)
    store.remember(Estimates(ledger for _, ledger in others).dump())


def used_today(found: Ledgers) -> dict[str, int]:
    """Return what runs used today (UTC), by scope and unit."""
    used, today = Counter[str](), time.time_ns() // 1_000_000 // DAY_MS
    for run, ledger in found:
        for labels, sums in ledger.items():
            row = decoding.ledger_row(run, labels.encode(), sums.encode())
            if row is None or row.day != today:
                continue
            for scope in ("all", queue_of(row.backend), f"key {row.key}"):
                used[f"{scope} cost"] += row.spending.micro_usd
                used[f"{scope} tokens"] += row.spending.total_tokens
    return dict(used)
