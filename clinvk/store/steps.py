"""Steps: what the CLIs of a run did, for those who watch it or read about it later."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import redis

from clinvk.core.errors import WireError
from clinvk.core.steps import StepRecord
from clinvk.store.connection import Connection, is_out_of_memory
from clinvk.store.types import StepsPage

MAX_STEPS = 500
MAX_BYTES = 256 << 10
"""What is kept of the steps of a task; of more, the oldest are dropped, and counted."""
MAX_STEP_BYTES = 64 << 10
"""The largest step: a larger one is kept without the CLI's own line."""
PAGE_BYTES = 1 << 20
"""After how many bytes an answer ends."""


class Steps(Connection):
    """The operations on steps."""

    def record_steps(
        self,
        run: str,
        records: Sequence[StepRecord],
        dropped: Mapping[int, int] | None = None,
        nonce: str | None = None,
    ) -> int:
        """Record steps of a run, which get their sequences in this order.

        `dropped` says, by task, how many steps that came before these the caller could not keep.
        A call that failed may be repeated as it was, with its `nonce`: nothing is recorded twice.

        Returns:
            How many were recorded: none where the run is gone, or the server out of memory.

        Raises:
            redis.RedisError: the server cannot be reached, or the run has no such task.
        """
        rows = list(_rows(records, dropped or {}))
        if not rows:
            return 0
        try:
            return int(
                self.call(
                    "record_steps",
                    run=run,
                    nonce=nonce or secrets.token_hex(8),
                    max_steps=MAX_STEPS,
                    max_bytes=MAX_BYTES,
                    rows=rows,
                )
            )
        except redis.ResponseError as error:
            if is_out_of_memory(error):
                return 0
            raise

    def steps_since(
        self, run: str, after_sequence: int, index: int | None = None, count: int = 1000
    ) -> StepsPage:
        """Read the steps after a sequence (0 is the beginning), of one task or of all, in order.

        At most `count`, and fewer where they are large: ask again from the page's `position`.
        """
        position, has_more, found = self.call(
            "steps_since",
            run=run,
            after=after_sequence,
            index="" if index is None else index,
            max_steps=count,
            max_bytes=PAGE_BYTES,
        )
        records = map(_record, found[::2], found[1::2])
        return StepsPage([each for each in records if each], position, bool(has_more))


def _rows(records: Iterable[StepRecord], dropped: Mapping[int, int]) -> Iterator[Any]:
    for index, count in dropped.items():
        yield from (index, count, "")
    for record in records:
        wire = replace(record, sequence=0, number=0).to_wire()
        if len(wire) > MAX_STEP_BYTES:
            wire = replace(record, sequence=0, number=0, raw=None).to_wire()
        yield from (record.index, 0, wire)


def _record(sequence: int, entry: bytes) -> StepRecord | None:
    """Decode a step; None where it cannot be: it is only shown, and the others can do without."""
    number, _, wire = entry.partition(b":")
    try:
        return replace(StepRecord.from_wire(wire), sequence=sequence, number=int(number))
    except WireError:
        return None
