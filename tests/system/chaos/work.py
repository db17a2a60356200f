"""What the fleet is given to do under chaos, and what must come of it."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

ONCE = "once"
"""A task that must not be repeated: one execution, and LOST if its worker is."""
LIMITED = "limited"
"""A task of a provider that has limits: what it refuses runs again, and is not counted."""
POISON = ("flood", "deaf", "escape", "bytes", "signal")
EXPECTED = {"fail": ("failed", 3), "deaf": ("timeout", -1), "signal": ("failed", -11)}
"""Status and exit code by kind; all other kinds end ok, with 0."""
MANY = 1000
"""Losses that no task reaches: under chaos a task is lost more often than in a year of work."""


@dataclass(frozen=True)
class Work:
    """One task: its kind, and how long it takes."""

    kind: str
    seconds: float

    @property
    def expected(self) -> tuple[str, int]:
        return EXPECTED.get(self.kind, ("ok", 0))

    def line(self, index: int) -> str:
        """Its line in a task file."""
        backend = "claude" if self.kind == LIMITED else "fake"
        task = {"backend": backend, "prompt": f"t{index} {self.kind} {self.seconds:.3f}"}
        limits = {"on_worker_lost": "fail"} if self.kind == ONCE else {"max_attempts": MANY}
        patience = {"timeout_seconds": 1} if self.kind == "deaf" else {}
        return json.dumps({**task, **limits, **patience}) + "\n"


def plan(dice: random.Random, count: int) -> list[Work]:
    """Short tasks, some that fail, some long ones (an hour, scaled), and poison."""
    special = [Work("long", dice.uniform(5, 20)) for _ in range(count // 50)]
    special += [Work("fail", dice.uniform(0.01, 0.3)) for _ in range(count // 12)]
    special += [Work(ONCE, dice.uniform(0.01, 0.3)) for _ in range(count // 50)]
    special += [Work(LIMITED, dice.uniform(0.01, 1)) for _ in range(count // 6)]
    for kind in POISON:
        one_in = 400 if kind in {"flood", "deaf"} else 100
        special += [Work(kind, dice.uniform(0.01, 0.1)) for _ in range(count // one_in)]
    short = [Work("short", dice.uniform(0.01, 0.3)) for _ in range(count - len(special))]
    work = special + short
    dice.shuffle(work)
    return work
