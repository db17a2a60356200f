"""The chaos run: one fault every quarter of a second, drawn from a seed, and then all is healed."""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.system.chaos.world import Unit, World

TICK_SECONDS = 0.25
WEIGHTS = {
    "nothing": 2,
    "worker": 3,  # SIGKILL to a worker process; its supervisor sees it
    "machine": 1,  # SIGKILL to all that runs on a machine
    "deploy": 1,  # SIGTERM to a worker, now and then twice; another starts when it has ended
    "redis": 1,  # the server ends, by TERM or KILL, and comes back
    "link": 2,  # a link is cut for some seconds, both ways or one
    "reset": 1,  # the server closes connections
    "client": 1,  # the client is killed; another attaches
    "gone": 0.2,  # once: a link is cut for so long that what runs behind it counts as lost
}
OPTIONAL = ("machine", "deploy", "redis", "link", "reset", "client", "gone")
GONE_SECONDS = 100.0
SETTLED_SECONDS = 20.0
"""After a cut, TCP may take this long to say what it had to say."""
MOST_CUT = 3


@dataclass(frozen=True)
class Kill:
    """A worker process that was killed, alone or with all of its machine."""

    kind: str
    unit: str
    owner: str
    at_ns: int


@dataclass
class ChaosRun:
    """Strikes a world. `kinds` are the faults that this seed has.

    Attributes:
        kills: the workers that were killed.
        counts: how often each fault struck.
    """

    world: World
    dice: random.Random
    kinds: tuple[str, ...]
    run: str
    output: Path
    kills: list[Kill] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    _later: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _watcher: subprocess.Popen[bytes] | None = None
    _last_status: int | None = None
    _redis_since: float = 0.0

    def rage(self, seconds: float) -> None:
        """Strike until the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._strike()
            self.tend(TICK_SECONDS)

    def calm(self) -> None:
        """Undo what was done, but for a machine that is gone for its whole time."""
        while self._later:
            if self._later[0][0] - time.monotonic() < GONE_SECONDS / 2:
                heapq.heappop(self._later)[2]()
            else:
                break

    def tend(self, seconds: float) -> None:
        """Do what is due, start workers and clients that have ended, for some time."""
        end = time.monotonic() + seconds
        while True:
            while self._later and self._later[0][0] <= time.monotonic():
                heapq.heappop(self._later)[2]()
            self.world.supervise()
            self._follow()
            if time.monotonic() >= end:
                return
            time.sleep(0.02)

    def close(self) -> None:
        if self._watcher is not None and self._watcher.poll() is None:
            self._watcher.kill()
            self._watcher.wait()

    @property
    def is_over(self) -> bool:
        """Whether a client has seen the end of the run."""
        return self._last_status in {0, 1} and not self._later

    def _follow(self) -> None:
        """Keep a client attached: one that lost the server ends with 4."""
        if self._watcher is not None and self._watcher.poll() is not None:
            self._last_status, self._watcher = self._watcher.returncode, None
        if self._watcher is None and self._last_status not in {0, 1}:
            self._watcher = self.world.client(self.run, self.output)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._numbers), action))

    def _strike(self) -> None:
        kinds = ("nothing", "worker", *self.kinds)
        (kind,) = self.dice.choices(kinds, [WEIGHTS[kind] for kind in kinds])
        if getattr(self, f"_{kind}")():
            self.counts[kind] = self.counts.get(kind, 0) + 1

    # Faults. Each returns whether it struck.

    def _nothing(self) -> bool:
        return False

    def _victim(self) -> Unit | None:
        """A machine whose worker is up; None where most of the fleet is down already."""
        up = [unit for unit in self.world.units if unit.is_up]
        return self.dice.choice(up) if len(up) > len(self.world.units) / 3 else None

    def _worker(self) -> bool:
        return self._kill("worker", self.world.kill_worker)

    def _machine(self) -> bool:
        return self._kill("machine", self.world.kill_unit)

    def _kill(self, kind: str, how: Callable[[Unit], None]) -> bool:
        unit = self._victim()
        if unit is None:
            return False
        self.kills.append(Kill(kind, unit.name, unit.owner, time.monotonic_ns()))
        how(unit)
        self.world.expect_restart(unit, self.dice.uniform(0.2, 4))
        return True

    def _deploy(self) -> bool:
        unit = self._victim()
        if unit is None or unit.is_leaving or not unit.owner:
            return False
        unit.leave()
        if self.dice.random() < 0.3:
            self._after(self.dice.uniform(0.5, 3), unit.leave)
        return True

    def _redis(self) -> bool:
        server = self.world.server
        if server.process is None or time.monotonic() - self._redis_since < 3:
            return False
        down = 15.0 if self.dice.random() < 0.07 else self.dice.uniform(0, 3)
        server.stop(self.dice.choice([signal.SIGTERM, signal.SIGKILL]))
        self._after(down, self._redis_back)
        return True

    def _redis_back(self) -> None:
        self.world.server.start()
        self._redis_since = time.monotonic()

    def _link(self) -> bool:
        return self._cut(self.dice.choice(["both", "in", "out"]), self.dice.uniform(0.5, 12))

    def _gone(self) -> bool:
        return "gone" not in self.counts and self._cut("both", GONE_SECONDS)

    def _cut(self, way: str, seconds: float) -> bool:
        whole = [unit for unit in self.world.units if not unit.is_cut]
        if len(self.world.units) - len(whole) >= MOST_CUT or not whole:
            return False
        unit = self.dice.choice(whole)
        self.world.cut(unit, way)
        self._after(seconds, lambda: self.world.mend(unit, way))
        return True

    def _reset(self) -> bool:
        """Close connections of some machines, and all of the clients.

        Not those behind a cut: the worker could not hear of it, and a server that says a
        connection is closed while its other end believes it stands is outside of what
        `clinvk/store/failure_detector.py` promises.
        """
        if self.world.server.process is None:
            return False
        settled_ns = time.monotonic_ns() - int(SETTLED_SECONDS * 1e9)
        spared = {
            unit.address
            for unit in self.world.units
            if unit.is_cut or (unit.cuts and unit.cuts[-1][1] > settled_ns)
        }
        try:
            with self.world.server.client() as client:
                for each in client.client_list(_type="normal"):
                    if each["addr"].rpartition(":")[0] not in spared:
                        client.client_kill_filter(_id=each["id"], skipme=True)
        except redis.RedisError:
            return False
        return True

    def _client(self) -> bool:
        if self._watcher is None:
            return False
        self._watcher.kill()
        return True
