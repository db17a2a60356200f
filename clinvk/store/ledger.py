"""The ledger: what executions of tasks used, by day, run, backend, model, tags and key.

The scripts that end executions write it (`lua/lib/ledger.lua`); this reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from clinvk.store import decoding
from clinvk.store.connection import Connection, all_but_wrong_types
from clinvk.store.keys import key
from clinvk.store.types import LedgerRow

DAY_MS = 86_400_000
PAGE = 500
"""Runs whose ledgers are read at a time."""


class Ledger(Connection):
    """Reading what was used."""

    def spending_of(self, run: str) -> list[LedgerRow]:
        """Return what a run has used so far, losses of workers and refused executions included."""
        return list(self._rows([run]))

    def ledger(self, run: str) -> dict[str, str]:
        """Return the rows of a run as they are stored, for `decoding.ledger_row`."""
        fields = self.redis.hgetall(key("ledger", run))
        return {decoding.text(name): decoding.text(sums) for name, sums in fields.items()}

    def spending(self, since_ms: int) -> Iterator[LedgerRow]:
        """Yield what all runs have used since a time, from the beginning of its day (UTC) on."""
        first_day = since_ms // DAY_MS
        names = self.redis.zrangebyscore(key("ledgers"), first_day * DAY_MS, "+inf")
        runs = [decoding.text(name) for name in names]
        for first in range(0, len(runs), PAGE):
            for row in self._rows(runs[first : first + PAGE]):
                if row.day >= first_day:
                    yield row

    def _rows(self, runs: Sequence[str]) -> Iterator[LedgerRow]:
        with self.redis.pipeline(transaction=False) as pipeline:
            for run in runs:
                pipeline.hgetall(key("ledger", run))
            answers = all_but_wrong_types(pipeline)
        for run, fields in zip(runs, answers, strict=True):
            if isinstance(fields, Mapping):
                yield from (
                    row for pair in fields.items() if (row := decoding.ledger_row(run, *pair))
                )
