"""How well the gate of a queue finds what a provider allows: a fleet in virtual time.

A provider serves as many tasks at once as its hidden capacity, which steps up and down, and refuses
a start beyond it: mostly within seconds, sometimes minutes into the task. The store's own scripts
run on a real server whose clock is the simulation's. Beside it, on the same provider: fixed
concurrencies, and the adaptive rules that two other tools publish.

`python -m benchmarks.limits [--hours H] [--seeds N]` prints one row for each rule: the share of
what the provider would have served, and the share of starts that it refused.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from clinvk.core.spec import RunOptions, TaskResult, TaskSpec, TaskStatus
from clinvk.store.types import Admission, Dispatched, Hold, Lease
from tests import harness
from tests.server import running_server
from tests.virtual_time import VirtualTimeStore

HOUR = 3600.0
WORKERS, SLOTS_EACH = 50, 4
QUEUE = "clinvk.claude"
FOREVER_MS = 1 << 40


class Provider:
    """Capacity over time, in seconds from the start: constant between steps."""

    def __init__(self, rng: random.Random, hours: float, low: int = 12, high: int = 60) -> None:
        self.ends_at = hours * HOUR
        self.steps: list[tuple[float, int]] = []
        at, capacity = 0.0, rng.randint(low, high)
        while at < self.ends_at:
            self.steps.append((at, capacity))
            at += rng.uniform(1200, 3600)
            before = capacity
            while abs(capacity - before) < 4:
                capacity = min(high, max(low, int(before * rng.uniform(0.5, 1.8))))

    def capacity(self, at: float) -> int:
        return next(value for step, value in reversed(self.steps) if step <= at)

    def work(self) -> float:
        """All that it could serve, in seconds of tasks."""
        ends = [step for step, _ in self.steps[1:]] + [self.ends_at]
        return sum(
            value * (end - start) for (start, value), end in zip(self.steps, ends, strict=True)
        )

    def mean(self) -> int:
        return round(self.work() / self.ends_at)


@dataclass(frozen=True, slots=True)
class Start:
    """A task that was started: by whom it is known, and when, in seconds."""

    token: Any
    at: float


class Rule(ABC):
    """Decides when tasks start. Times are in seconds; `token` is the rule's own."""

    def __init__(self) -> None:
        self.wakes_at: float | None = None

    @abstractmethod
    def starts(self, now: float) -> Iterable[Any]:
        """Return tokens of the tasks to start now."""

    @abstractmethod
    def succeeded(self, start: Start, now: float) -> None:
        """A task ended well."""

    @abstractmethod
    def refused(self, start: Start, now: float) -> None:
        """The provider refused a task."""


class Counting(Rule):
    """A rule that is a number: start up to `limit` at once."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.running = 0

    def starts(self, now: float) -> Iterator[None]:
        del now
        while self.running < min(self.limit, WORKERS * SLOTS_EACH):
            self.running += 1
            yield None

    def succeeded(self, start: Start, now: float) -> None:
        del start, now
        self.running -= 1
        self.grow()

    def refused(self, start: Start, now: float) -> None:
        del start
        self.cut(now)
        self.running -= 1

    def grow(self) -> None:
        """Nothing, for a fixed number."""

    def cut(self, now: float) -> None:
        """Nothing, for a fixed number."""


class InspectAI(Counting):
    """inspect_ai's: doubling up to the first refusal, then x0.8 for each episode, +5 % a round."""

    EPISODE_SECONDS = 15.0

    def __init__(self) -> None:
        super().__init__(20)
        self._successes = 0
        self._is_first = True
        self._cut_at = -math.inf

    def grow(self) -> None:
        self._successes += 1
        if self._successes >= self.limit:
            self._successes = 0
            more = self.limit * 2 if self._is_first else max(self.limit + 1, int(self.limit * 1.05))
            self.limit = min(WORKERS * SLOTS_EACH, more)

    def cut(self, now: float) -> None:
        self._successes, self._is_first = 0, False
        if now - self._cut_at > self.EPISODE_SECONDS:
            self.limit, self._cut_at = max(1, int(self.limit * 0.8)), now


class DataDesigner(Counting):
    """DataDesigner's: from the most, x0.75 for each episode, +1 after 25 successes in a row."""

    EPISODE_SECONDS = 2.0

    def __init__(self) -> None:
        super().__init__(WORKERS * SLOTS_EACH)
        self._successes = 0
        self._cut_at = -math.inf

    def grow(self) -> None:
        self._successes += 1
        if self._successes >= 25:
            self._successes = 0
            self.limit = min(WORKERS * SLOTS_EACH, self.limit + 1)

    def cut(self, now: float) -> None:
        self._successes = 0
        if now - self._cut_at > self.EPISODE_SECONDS:
            self.limit, self._cut_at = max(1, int(self.limit * 0.75)), now


class Gate(Rule):
    """clinvk's: the store's scripts."""

    def __init__(self, store: VirtualTimeStore, rng: random.Random, tasks: int) -> None:
        super().__init__()
        self._store, self._rng = store, rng
        self._dispatched: list[Dispatched] = []
        store.clear()
        for worker in range(WORKERS):
            store.announce(f"w{worker}", {"slots": SLOTS_EACH, "queues": [QUEUE]})
        specs = (TaskSpec(backend="claude", prompt="p") for _ in range(tasks))
        options = RunOptions(max_parallel=1 << 20)
        self._take(store.submit(f"run{rng.random()}", specs, options).admission)

    def _take(self, admission: Admission) -> None:
        self._dispatched += admission.dispatched
        self.wakes_at = self._store.seconds + admission.retry_after_ms / 1000

    def starts(self, now: float) -> Iterator[Lease]:
        self._store.seconds = now
        if self.wakes_at is not None and now >= self.wakes_at:
            self._take(self._store.admit())
        while self._dispatched:
            each = self._dispatched.pop(0)
            lease = Lease(each.run, each.index, each.dispatch)
            self._store.call(
                "claim", **lease.arguments(), owner="o", nonce="n", lease_ms=FOREVER_MS
            )
            yield lease

    def succeeded(self, start: Start, now: float) -> None:
        self._store.seconds = now
        result = TaskResult(
            index=start.token.index, status=TaskStatus.OK, exit_code=0, duration_seconds=0.0
        )
        self._take(self._store.finish(start.token, result).admission)

    def refused(self, start: Start, now: float) -> None:
        self._store.seconds = now
        delay_ms = int(1000 * self._rng.uniform(0, 30))
        self._take(self._store.hold(start.token, Hold(signal="burst", delay_ms=delay_ms)).admission)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Shares of what the provider would have served, and of the starts that it refused."""

    served: float
    refused: float

    @property
    def loss(self) -> float:
        return 1 - self.served + self.refused


def simulate(provider: Provider, rule: Rule, rng: random.Random, late: float = 0.2) -> Outcome:
    """Run a backlog that never ends until the provider's time is over."""
    events: list[tuple[float, int, str, Start | None, float]] = []
    numbers = count()
    active = starts = refusals = 0
    served, wakes = 0.0, math.inf

    def push(at: float, kind: str, start: Start | None = None, length: float = 0.0) -> None:
        heapq.heappush(events, (at, next(numbers), kind, start, length))

    for step, _ in provider.steps:
        push(step, "step")
    while events:
        now, _, kind, start, length = heapq.heappop(events)
        if now > provider.ends_at:
            break
        if kind == "served" and start:
            active -= 1
            served += length
            rule.succeeded(start, now)
        elif kind == "refused" and start:
            refusals += 1
            rule.refused(start, now)
        for token in rule.starts(now):
            starts += 1
            length = math.exp(rng.uniform(math.log(20), math.log(600)))
            if active < provider.capacity(now):
                active += 1
                push(now + length, "served", Start(token, now), length)
            else:
                delay = rng.uniform(20, 90) if rng.random() < late else rng.uniform(0.5, 5)
                push(now + delay, "refused", Start(token, now))
        wakes = wakes if wakes > now else math.inf
        if rule.wakes_at is not None and now < rule.wakes_at < wakes:
            wakes = rule.wakes_at
            push(wakes, "wake")
    return Outcome(served / provider.work(), refusals / starts)


MakeRule = Callable[[VirtualTimeStore, Provider, random.Random], Rule]


def rules(
    hours: float,
) -> Mapping[str, Callable[[VirtualTimeStore, Provider, random.Random], Rule]]:
    """Every rule that is compared, by its name."""
    return {
        "clinvk's gate": lambda store, _, rng: Gate(store, rng, int(hours * 1500)),
        "fixed, the mean capacity": lambda _, provider, __: Counting(provider.mean()),
        "fixed, half of it": lambda _, provider, __: Counting(provider.mean() // 2),
        "fixed, twice it": lambda _, provider, __: Counting(provider.mean() * 2),
        "inspect_ai": lambda *_: InspectAI(),
        "DataDesigner": lambda *_: DataDesigner(),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24, help="virtual hours (default: 24)")
    parser.add_argument("--seeds", type=int, default=5, help="providers (default: 5)")
    options = parser.parse_args()
    print(f"{'rule':28}{'served':>8}{'refused':>9}{'idle + refused':>16}")
    with (
        tempfile.TemporaryDirectory() as directory,
        running_server(harness.server_program(), Path(directory)) as url,
    ):
        store = VirtualTimeStore.connect(url)
        for name, make in rules(options.hours).items():
            outcomes = []
            for seed in range(options.seeds):
                provider, rng = Provider(random.Random(seed), options.hours), random.Random(seed)
                outcomes.append(simulate(provider, make(store, provider, rng), rng))
            served = statistics.mean(each.served for each in outcomes)
            refused = statistics.mean(each.refused for each in outcomes)
            print(f"{name:28}{served:8.1%}{refused:9.2%}{1 - served + refused:16.1%}", flush=True)


if __name__ == "__main__":
    main()
