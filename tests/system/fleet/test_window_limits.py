"""A fleet meets the window limit of a provider: it waits for the reset, and everything is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import at_start, harness, limited_claude, quick_limits, wrong_clock
from tests.meter import Allowance
from tests.system.fleet.machines import Fleet, tasks
from tests.system.fleet.test_losses import results

WINDOW = Allowance(per_window=8, window_seconds=12)
TASKS = 14
HOUR = 3600


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a `claude` that all machines have, and of its provider."""
    folder = tmp_path / "provider"
    folder.mkdir()
    monkeypatch.setenv("PATH", limited_claude.install(folder, WINDOW), prepend=":")
    return folder


def start_workers(fleet: Fleet, folder: Path, clocks: tuple[int, int]) -> list[Any]:
    """Start a worker on each of two machines, whose clocks are so many seconds ahead."""
    workers = []
    for seconds in clocks:
        lines = [quick_limits.AT_START, wrong_clock.at_start(seconds)]
        machine = fleet.machine()
        python_path = at_start.python_path(folder / machine.name, *lines)
        variables = {"PYTHONPATH": python_path}
        workers.append(fleet.worker(machine, 2, "claude", variables=variables))
    return workers


def kill_workers(fleet: Fleet, workers: list[Any]) -> None:
    """Kill each worker itself; its supervisor ends what it ran, and ends."""
    for worker in workers:
        _, itself, *_ = fleet.of_worker(worker)
        itself.kill()
    for worker in workers:
        worker.wait()


def restart_server(fleet: Fleet) -> None:
    fleet.kill_server()
    fleet.restart_server()


def at_ms(fleet: Fleet, run: str, kind: str) -> dict[str, int]:
    """Return when events of a kind happened, by the server's clock, by their leases."""
    found = {}
    for name, fields in fleet.store.redis.xrange(f"clinvk:run:{run}:events"):
        event = {key.decode(): value.decode() for key, value in fields.items()}
        if event["kind"] == kind:
            lease = f"{run}:{event['index']}:{event['dispatch']}"
            found[lease] = int(name.decode().partition("-")[0])
    return found


def starts_before_resets(fleet: Fleet, run: str, folder: Path) -> list[str]:
    """Return the leases that were started after a rejection was recorded, and before its reset."""
    held = at_ms(fleet, run, "held")
    closed = [
        (held[request["lease"]], 1000 * request["opens_at"])
        for request in limited_claude.requests(folder)
        if request["lease"] in held
    ]
    assert closed
    return [
        lease
        for lease, at in at_ms(fleet, run, "started").items()
        if any(since < at < until for since, until in closed)
    ]


@pytest.mark.timeout(180)
def test_nothing_starts_before_the_reset_and_nothing_fails(fleet: Fleet, provider: Path) -> None:
    """Also where clocks are wrong, and all is killed and restarted while the limit is closed."""
    clocks = (HOUR, -HOUR)
    workers = start_workers(fleet, provider, clocks)
    prompts = tasks(*(f"t{number} 0.5" for number in range(TASKS)), backend="claude")
    run = fleet.clinvk("parallel", "--detach", "--max-parallel", "10", stdin=prompts).stdout.strip()
    harness.wait_until(lambda: at_ms(fleet, run, "held"), "the limit to be met")
    kill_workers(fleet, workers)
    restart_server(fleet)
    start_workers(fleet, provider, clocks)
    assert fleet.clinvk("wait", run).status == 0
    ended = results(fleet, run)
    assert [result["status"] for result in ended] == ["ok"] * TASKS
    assert starts_before_resets(fleet, run, provider) == []
    rejections = sum(result.get("rejections", 0) for result in ended)
    assert rejections == len(at_ms(fleet, run, "held"))
    assert max(result.get("waited_seconds", 0) for result in ended) > 0
    queues = json.loads(fleet.clinvk("queues", "--json").stdout)
    assert queues
