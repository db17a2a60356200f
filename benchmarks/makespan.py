"""Makespan: tasks of random length on two workers, from the first start to the last end.

By the tasks' own records, against what list scheduling without any overhead would make of the
same lengths: each task, in its order, in the slot that is free first. A length is what the task
itself has measured, so that a busy machine lengthens both sides.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence

from benchmarks.private import workers
from benchmarks.records import Record, recorder
from benchmarks.scale import Row, server

TASKS, SHORTEST, LONGEST, SEED = 400, 0.05, 1.0, 6
WORKERS, SLOTS = 2, 8
AT_ONCE = WORKERS * SLOTS


def bound(lengths: Sequence[float], slots: int) -> float:
    """Return how long list scheduling takes."""
    free_at = [0.0] * slots
    for length in lengths:
        heapq.heapreplace(free_at, free_at[0] + length)
    return max(free_at)


def row(name: str, records: Sequence[Record]) -> Row:
    took = max(record.end for record in records) - min(record.start for record in records)
    best = bound([record.length for record in records], AT_ONCE)
    return name, took, "s", best, "list scheduling of the same lengths"


def measure() -> Iterator[Row]:
    chosen = random.Random(SEED)
    lengths = [chosen.uniform(SHORTEST, LONGEST) for _ in range(TASKS)]
    what = f"makespan, {TASKS} tasks of {SHORTEST} to {LONGEST:g} s, {AT_ONCE} at once"
    with recorder() as made:
        with (
            server(made.folder) as (url, store),
            workers(url, store, made.config, "record", WORKERS, SLOTS),
        ):
            yield row(
                f"{what}: {WORKERS} workers",
                made.through_clinvk(lengths, AT_ONCE, "--broker", url),
            )
        yield row(f"{what}: threads + subprocess", made.through_threads(lengths, AT_ONCE))
