"""A budget holds over ten machines, by the tasks' own record of what they cost."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from clinvk.core.prices import micro_usd
from tests import harness, limited_claude, priced_claude
from tests.meter import Allowance
from tests.system.fleet.machines import Fleet, statuses, tasks

MACHINES, SLOTS, MAX_PARALLEL, LIMIT_USD = 10, 2, 16, 3.0


@pytest.fixture
def costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a `claude` that all machines have, with a price."""
    folder = tmp_path / "priced"
    folder.mkdir()
    path = limited_claude.install(folder, Allowance(), priced_claude.__name__)
    monkeypatch.setenv("PATH", path, prepend=":")
    return folder


def record(folder: Path) -> list[tuple[str, str, int]]:
    """What tasks did, in order: start or end, which, and its cost in millionths of a dollar."""
    rows = (line.split() for line in (folder / "costs.log").read_text().splitlines())
    return [(what, name, micro_usd(float(usd))) for what, name, usd in rows]


def check_overshoot(rows: list[tuple[str, str, int]], limit: int) -> int:
    """Hold what a run cost against what was in flight as it came to its limit; returns the cost."""
    spent, running, after = 0, dict[str, int](), dict[str, int]()
    for what, name, cost in rows:
        if what == "start":
            running[name] = cost
            if spent >= limit:
                after[name] = cost
        else:
            in_flight = dict(running)
            spent += running.pop(name)
            if spent - cost < limit <= spent:
                at_the_limit = in_flight
    assert not running
    if spent > limit:
        # A task that was dispatched and had not begun was in flight, too.
        assert len(at_the_limit) + len(after) <= MAX_PARALLEL
        assert spent - limit <= sum(at_the_limit.values()) + sum(after.values())
    return spent


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1])
def test_no_more_is_spent_than_was_in_flight(fleet: Fleet, costs: Path, seed: int) -> None:
    for _ in range(MACHINES):
        fleet.worker(fleet.machine(), SLOTS, "claude", waits=False)
    harness.wait_until(lambda: len(fleet.store.workers()) == MACHINES, "all workers", 200)
    dice = random.Random(seed)
    prompts = [
        f"t{n} {dice.choice([0.05, 0.2, 0.5])} {dice.choice([0.05, 0.1, 0.1, 0.2, 0.2, 1.5])}"
        for n in range(60)
    ]
    options = ("--max-parallel", str(MAX_PARALLEL), "--max-cost", str(LIMIT_USD), "--json")
    ended = fleet.clinvk("parallel", *options, stdin=tasks(*prompts, backend="claude"))
    assert ended.status == 1
    report = json.loads(ended.stdout)
    spent = check_overshoot(record(costs), micro_usd(LIMIT_USD))
    left = [result for result in report["results"] if result["status"] == "canceled"]
    assert {result["error_kind"] for result in left} == {"budget"}
    assert report["completed"] + len(left) == 60
    assert spent > micro_usd(LIMIT_USD / 2)  # it is not all reserved
    # The run, its tasks, its ledger and its budget agree to the cent.
    assert micro_usd(report["cost_usd"]) == spent
    assert sum(micro_usd(result.get("cost_usd")) for result in report["results"]) == spent
    ledger = json.loads(fleet.clinvk("costs", "--by", "run", "--json").stdout)
    assert micro_usd(ledger["cost_usd"]) == spent
    summary = fleet.store.summary(report["run_id"])
    assert summary is not None
    assert summary.spent_micro_usd == spent
    assert f"clinvk retry {report['run_id']} --max-cost" in ended.stderr
    reserved = fleet.store.redis.hgetall(f"clinvk:run:{report['run_id']}:reserved")
    assert set(reserved.values()) == {b"0"}


@pytest.mark.timeout(300)
def test_a_day_is_limited_by_the_owner_and_a_cli_keeps_to_what_is_left(
    fleet: Fleet, costs: Path
) -> None:
    (costs / "obedient").touch()
    fleet.clinvk("runs")  # writes the configuration
    config = fleet.folder / "config.json"
    budgets = {"day": 2, "queues": {"claude": {"day": 1.5}}, "estimate_usd": 0.5}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"budgets": budgets}))
    for _ in range(2):
        fleet.worker(fleet.machine(), SLOTS, "claude")
    prompts = (
        [f"t{n} 0.1 0.4" for n in range(3)] + ["dear 0.1 9"] + [f"u{n} 0.1 1" for n in range(9)]
    )
    ended = fleet.clinvk(
        "parallel", "--json", "--max-parallel", "1", stdin=tasks(*prompts, backend="claude")
    )
    assert statuses(ended) == ["ok"] * 3 + ["canceled"] * 10
    assert "today's budget of claude is used up" in ended.stderr
    (queue,) = (
        q for q in json.loads(fleet.clinvk("queues", "--json").stdout) if q["queue"] == "claude"
    )
    assert queue["state"] == "open"  # 0.30 are left, too little for a start
    own = fleet.clinvk(
        "parallel", "--json", "--max-cost", "0.2", stdin=tasks(prompts[3], backend="claude")
    )
    assert json.loads(own.stdout)["results"][0]["status"] == "canceled"
