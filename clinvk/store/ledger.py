"""The ledger: what executions of tasks used, by day, run, backend, model, tags and key.

The scripts that end executions write it (`lua/lib/ledger.lua`); this reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from clinvk.store import decoding
from clinvk.store.connection import Connection, all_but_wrong_types
from clinvk.store.keys import key
from clinvk.store.types import DAY_MS, LedgerRow

LIFETIME_MS = 92 * DAY_MS
ELSEWHERE = "elsewhere"
"""Stands for a run in the names of what other servers had."""
HISTOGRAMS = 200
"""Among how many runs, the newest, it is looked what executions used."""
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

    def remember(self, histograms: Mapping[str, str]) -> None:
        """Add what executions on other servers used; see lua/lib/ledger.lua.

        It is for estimates, and no part of what was spent here.
        """
        if not histograms:
            return
        with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.zadd(key("ledgers"), {ELSEWHERE: 1})
            pipeline.hset(key("ledger", ELSEWHERE), mapping=dict(histograms))
            pipeline.pexpire(key("ledger", ELSEWHERE), LIFETIME_MS)
            pipeline.pexpire(key("ledgers"), LIFETIME_MS)
            pipeline.execute()

    def histograms(self) -> Iterator[dict[str, str]]:
        """Yield the ledgers of the newest runs as they are stored."""
        names = self.redis.zrevrange(key("ledgers"), 0, HISTOGRAMS - 1)
        for name in names:
            yield self.ledger(decoding.text(name))

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
