"""A fleet that meets window limits, in virtual time: what must hold whatever happens meanwhile."""

from __future__ import annotations

import heapq
import random
from itertools import count
from typing import Any

import pytest

from clinvk.store import leases
from clinvk.store.failure_detector import Server
from clinvk.store.store import Store
from clinvk.store.types import Lease
from tests.meter import Allowance, Meter
from tests.unit.store.test_gates import HOUR, Fleet
from tests.virtual_time import EPOCH_SECONDS

SLOTS, TASKS = 8, 24
WINDOWS = Allowance(per_window=9, window_seconds=5 * HOUR)
FOREVER_MS = 1 << 40


class Windows:
    """Tasks of 20 s to 10 min on a fleet, with a provider whose windows they use up.

    Attributes:
        rejected_until: until when nothing may start, by what the store was told.
        starts: when tasks started, in seconds.
    """

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.dice = random.Random(seed)
        self.provider = Meter(WINDOWS)
        self.rejected_until = 0.0
        self.refused = self.losses = 0
        self._events: list[tuple[float, int, Lease, float | None]] = []
        self._numbers = count()
        self._known: set[Lease] = set()

    def run(self, kill_after: int = 1000) -> None:
        """Submit everything and let time go by until it has ended.

        After so many ends, all workers are killed: their supervisors release what they held.
        """
        self.fleet.serve("clinvk.a", slots=SLOTS)
        self.fleet.submit(TASKS, max_wait_seconds=24 * HOUR)
        self._note_starts()
        ends = 0
        while self._events or self._wait():
            self.fleet.later(max(0.0, self._events[0][0] - self.fleet.store.seconds))
            self._note_starts()
            self._end(heapq.heappop(self._events))
            ends += 1
            if ends == kill_after:
                self._kill_all()
            self._note_starts()

    def _wait(self) -> bool:
        """Let time go by until something starts; returns whether something did."""
        gate = self.fleet.gate()
        opens_ms = gate.closed_until_ms if gate else None
        if opens_ms is None:
            return False
        seconds = (opens_ms - self.fleet.store.now_ms) / 1000
        for share in (0.5, 0.49, 0.01):  # here nothing may start, but after the last
            self.fleet.later(share * seconds)
            self._note_starts()
        self.fleet.later(1)
        self._note_starts()
        return bool(self._events)

    def _kill_all(self) -> None:
        killed = list(self.fleet.out)
        self.fleet.out.clear()
        self._events.clear()
        self.fleet.store.release("w/1", *killed)
        reaped = self.fleet.store.reap()
        self.losses = len(killed)
        self.fleet.take(reaped.admission)

    def _note_starts(self) -> None:
        now = self.fleet.store.seconds
        for lease in self.fleet.out:
            if lease not in self._known:
                self._known.add(lease)
                assert now >= self.rejected_until, f"{lease} started before the reset"
                self._ask(lease, now)

    def _ask(self, lease: Lease, now: float) -> None:
        """Ask the provider; a refusal takes up to a minute and a half to be known."""
        refusal = self.provider.refusal(EPOCH_SECONDS + now)
        opens = refusal.opens_at - EPOCH_SECONDS if refusal else None
        after = self.dice.uniform(1, 90) if refusal else self.dice.uniform(20, 600)
        heapq.heappush(self._events, (now + after, next(self._numbers), lease, opens))

    def _end(self, event: tuple[float, int, Lease, float | None]) -> None:
        _, _, lease, opens = event
        if opens is None:
            self.fleet.end(lease)
            return
        self.refused += 1
        self.rejected_until = max(self.rejected_until, opens)
        reset_ms = int((EPOCH_SECONDS + opens) * 1000)
        held = self.fleet.hold(
            lease, signal="window", retry_at_ms=reset_ms, max_wait_ms=24 * HOUR * 1000
        )
        assert held.verdict == "held"


@pytest.fixture
def fleet(redis_client: Any, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setattr(leases, "LEASE_MS", FOREVER_MS)  # time goes by in leaps
    monkeypatch.setattr(Store, "server", lambda _: Server("server", 1, None))
    return Fleet(redis_client)


@pytest.mark.parametrize(("seed", "kill_after"), [(0, 3), (1, 8), (2, 12)])
def test_nothing_starts_before_the_reset_and_nothing_fails(
    fleet: Fleet, seed: int, kill_after: int
) -> None:
    windows = Windows(fleet, seed)
    windows.run(kill_after)
    summary = fleet.store.summary("r")
    assert summary is not None
    assert (summary.ok, summary.ended) == (TASKS, TASKS)
    assert windows.refused > 1
    assert windows.losses > 0
