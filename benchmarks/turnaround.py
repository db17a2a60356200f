"""Slot turnaround: from the end of one CLI to the start of the next in its slot.

By the tasks' own records, so it includes the end of one shell and the beginning of the next; in
the floor as well. Nobody records slots: the first starts fill them, and each further start takes
the slot of the earliest end that none has taken.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.records import Record, recorder
from benchmarks.scale import Row

TASKS, SECONDS, AT_ONCE = 200, 0.1, 4
ROUNDS = 3
"""Floor and clinvk take turns; the turnarounds of all rounds count together."""


def turnarounds(records: Sequence[Record], at_once: int) -> list[float]:
    starts = sorted(record.start for record in records)[at_once:]
    ends = sorted(record.end for record in records)
    return [start - end for start, end in zip(starts, ends, strict=False)]


def measure() -> Iterator[Row]:
    ours, floor = list[float](), list[float]()
    lengths = [SECONDS] * TASKS
    with recorder() as made:
        for _ in range(ROUNDS):
            ours += turnarounds(made.through_clinvk(lengths, AT_ONCE), AT_ONCE)
            floor += turnarounds(made.through_threads(lengths, AT_ONCE), AT_ONCE)
    for percent in (50, 99):
        value, against = (
            1000 * statistics.quantiles(found, n=100, method="inclusive")[percent - 1]
            for found in (ours, floor)
        )
        name = f"slot turnaround, {TASKS} tasks of {SECONDS} s, {AT_ONCE} at once: p{percent}"
        yield name, value, "ms", against, "threads + subprocess"
