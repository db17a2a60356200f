"""`clinvk costs`: what executions used, added up from the ledgers of runs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from clinvk.commands.printing import note_unreadable, print_listing
from clinvk.core.durations import seconds_of
from clinvk.core.errors import UsageError
from clinvk.core.spending import Spending
from clinvk.local.records import Records
from clinvk.output import documents, tables
from clinvk.store import decoding
from clinvk.store.types import LedgerRow

if TYPE_CHECKING:
    from clinvk.config.settings import Settings

DAY_SECONDS = 86_400
KEEP_DAYS = 92
"""For so long the ledger of a run is kept (clinvk/store/lua/lib/ledger.lua)."""
NAMES: Mapping[str, Callable[[LedgerRow], Iterable[str]]] = {
    "run": lambda row: [row.run],
    "backend": lambda row: [row.backend],
    "model": lambda row: [row.model],
    "tag": lambda row: row.tags or [""],
    "day": lambda row: [date_of(row.day)],
    "key": lambda row: [row.key],
}
"""Under which names a row is counted, by what is asked for."""


def costs(settings: Settings, broker: str | None, since: str, by: str, *, as_json: bool) -> int:
    """Print costs of the last days by one of `NAMES`; `since` is a duration.

    Raises:
        UsageError: `since` is no duration, or longer than ledgers are kept.
    """
    first_day = _first_day(since)
    if settings.broker_url(broker) is not None:
        rows = _of_fleet(settings, broker, first_day)
    else:
        rows = _of_this_machine(settings, first_day)
    total, sums = Spending.sum(row.spending for row in rows), _summed(rows, by)
    value = {
        "since": date_of(first_day),
        "by": by,
        **documents.spending(total),
        "costs": [{by: name, **documents.spending(each)} for name, each in sums.items()],
    }
    return print_listing(value, tables.costs(by, sums, total), as_json=as_json)


def date_of(day: int) -> str:
    """Return a day, counted from the epoch, as a date."""
    return (datetime.fromtimestamp(0, UTC) + timedelta(days=day)).date().isoformat()


def _first_day(since: str) -> int:
    try:
        seconds = seconds_of(since)
    except ValueError as error:
        raise UsageError(f'--since: {error} (got "{since}")') from error
    if seconds > KEEP_DAYS * DAY_SECONDS:
        raise UsageError(f"--since: costs are kept for {KEEP_DAYS} days (got {since})")
    return int(time.time() - seconds) // DAY_SECONDS


def _of_fleet(settings: Settings, broker: str | None, first_day: int) -> list[LedgerRow]:
    from clinvk.commands import fleet

    with fleet.fleet(settings, broker) as client:
        return list(client.store.spending(first_day * DAY_SECONDS * 1000))


def _of_this_machine(settings: Settings, first_day: int) -> list[LedgerRow]:
    """Read what the summaries of local runs say, without starting anything."""
    found = Records(settings.runs_dir).newest(1 << 31, note_unreadable)
    rows = (
        decoding.ledger_row(summary.run.run_id, labels.encode(), sums.encode())
        for summary in found
        for labels, sums in summary.ledger.items()
    )
    return [row for row in rows if row is not None and row.day >= first_day]


def _summed(rows: Iterable[LedgerRow], by: str) -> dict[str, Spending]:
    """Add rows up by name, the most expensive first; days in their order."""
    sums = defaultdict[str, Spending](Spending)
    for row in rows:
        for name in NAMES[by](row):
            sums[name] += row.spending
    if by == "day":
        return dict(sorted(sums.items()))
    return dict(sorted(sums.items(), key=lambda pair: (-pair[1].micro_usd, pair[0])))
