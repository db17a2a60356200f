"""Tasks that wait for a limit to open: what 100,000 of them cost the server while they wait.

Ten workers that have nothing to do, beside a server of their own; then the same with a run behind a
gate that a window limit has closed. Commands are those of clients, without those of scripts.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.private import workers
from benchmarks.scale import Row, server
from clinvk.core.spec import RunOptions, TaskSpec
from clinvk.store.store import Store
from clinvk.store.types import Hold, Lease

BACKEND = "noop"
QUEUE = f"clinvk.{BACKEND}"
CONFIG = f"backends: {{{BACKEND}: {{command: [/bin/true]}}}}\n"
WORKERS, SLOTS, TASKS = 10, 4, 100_000
HOUR = 3600
OPENS_IN_SECONDS, MAY_WAIT_SECONDS = 2 * HOUR, 6 * HOUR
SETTLE_SECONDS = 10.0
ROUNDS = 2
RUN, FIRST_RUN = "waits{}", "refused"


@dataclass(frozen=True)
class Load:
    """What the server does in a second."""

    commands: float
    cpu_percent: float


def measure(seconds: float) -> Iterator[Row]:
    """Yield the figures; the server is watched for so many seconds each time."""
    idle, waiting = [], []
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as (url, store):
        config = Path(name) / "config.yaml"
        config.write_text(CONFIG)
        for number in range(ROUNDS):
            with workers(url, store, config, BACKEND, WORKERS, SLOTS):
                idle.append(watched(store, seconds))
            close_gate(store)
            run = RUN.format(number)
            specs = (task(index) for index in range(TASKS))
            store.submit(run, specs, RunOptions(max_parallel=WORKERS * SLOTS))
            with workers(url, store, config, BACKEND, WORKERS, SLOTS):
                waiting.append(watched(store, seconds))
            summary = store.summary(run)
            assert summary is not None
            assert (summary.ended, summary.in_flight) == (0, 0)
            store.redis.execute_command("FLUSHALL", "SYNC")
    against = f"{WORKERS} workers with nothing to do"
    commands, cpu = mean(waiting)
    idle_commands, idle_cpu = mean(idle)
    yield f"{TASKS} tasks wait: commands to the server", commands, "/s", idle_commands, against
    yield "the same: its share of a core", cpu, "%", idle_cpu, against


def task(index: int) -> TaskSpec:
    """Make a task that may wait for longer than the gate is closed."""
    return TaskSpec(
        backend=BACKEND, prompt=f"Review file {index}.", max_wait_seconds=MAY_WAIT_SECONDS
    )


def close_gate(store: Store) -> None:
    """Have one task meet a window limit, on a worker that then leaves."""
    store.announce("first", {"slots": 1, "queues": [QUEUE]})
    store.submit(FIRST_RUN, [task(0)], RunOptions())
    lease = Lease(FIRST_RUN, 0, 1)
    assert store.claim(lease, "first/1", "1").verdict == "go"
    seconds, _ = store.redis.time()
    opens_ms = 1000 * (int(seconds) + OPENS_IN_SECONDS)
    hold = Hold(signal="window", retry_at_ms=opens_ms, kind="usage_limit", worker="first")
    assert store.hold(lease, hold).verdict == "held"
    store.drain("first")


def watched(store: Store, seconds: float) -> Load:
    """Return what the server does while nothing happens."""
    time.sleep(SETTLE_SECONDS)
    started, before = time.monotonic(), counters(store)
    time.sleep(seconds)
    after, took = counters(store), time.monotonic() - started
    commands, cpu_seconds = ((b - a) / took for a, b in zip(before, after, strict=True))
    return Load(commands, 100 * cpu_seconds)


def counters(store: Store) -> tuple[float, float]:
    """Return how many commands clients have sent, and the processor time in seconds."""
    used = store.redis.info("cpu")
    stats = store.redis.info("commandstats")
    sent = sum(
        stats[f"cmdstat_{name}"]["calls"]
        for name in ("evalsha", "eval", "xread", "brpop", "ping", "xrevrange", "client|list")
        if f"cmdstat_{name}" in stats
    )
    return sent, float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def mean(loads: list[Load]) -> tuple[float, float]:
    """Return the means of commands and shares."""
    return (
        statistics.mean(load.commands for load in loads),
        statistics.mean(load.cpu_percent for load in loads),
    )
