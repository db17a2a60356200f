"""`clinvk costs`: what was spent, added up from the ledgers of runs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from clinvk.commands import costs
from clinvk.core.spec import RunSummary
from clinvk.core.spending import LOST, Spending
from clinvk.local.records import Summary
from clinvk.store.types import LedgerRow
from tests.unit.fake_fleet import Clinvk

RUNS = ("20260102-030405-abcdef01", "20260102-030405-abcdef02")
TODAY = int(time.time()) // costs.DAY_SECONDS


def row(run: str, backend: str, micros: int, **fields: object) -> LedgerRow:
    given: dict[str, object] = {"day": TODAY, "key": "ann", "model": "", "tags": ()}
    spending = Spending(executions=1, cli_micro_usd=micros, total_tokens=1000)
    return LedgerRow(run=run, backend=backend, **{**given, "spending": spending, **fields})  # type: ignore[arg-type]


ROWS = [
    row(RUNS[0], "claude", 1_250_000, model="opus", tags=("a", "b")),
    row(RUNS[0], "codex", 0, spending=Spending(executions=2, estimated_micro_usd=120_000)),
    row(RUNS[1], "tool", 0, spending=LOST, key="bob", day=TODAY - 1),
]


@pytest.fixture(autouse=True)
def fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "_of_fleet", lambda *_: ROWS)


def listed(clinvk: Clinvk, *arguments: str) -> str:
    done = clinvk("costs", "--broker", "redis://h", *arguments)
    assert (done.status, done.stderr) == (0, "")
    return done.stdout


def test_costs_by_backend(clinvk: Clinvk) -> None:
    assert listed(clinvk).splitlines() == [
        "BACKEND  COST    ESTIMATED  TOKENS  EXECUTIONS  UNKNOWN",
        "claude   $1.25   -          1.0k    1           -",
        "codex    ~$0.12  ~$0.12     0       2           -",
        "tool     -       -          0       1           1",
        "total    $1.37   ~$0.12     1.0k    4           1",
    ]


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("run", list(RUNS)),
        ("model", ["opus", "(none)"]),
        ("tag", ["a", "b", "(none)"]),
        ("day", [costs.date_of(TODAY - 1), costs.date_of(TODAY)]),
        ("key", ["ann", "bob"]),
    ],
)
def test_costs_by_other_names(clinvk: Clinvk, by: str, names: list[str]) -> None:
    lines = listed(clinvk, "--by", by).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [*names, "total"]


def test_costs_as_json(clinvk: Clinvk) -> None:
    document = json.loads(listed(clinvk, "--json", "--by", "key", "--since", "1d"))
    assert (document["since"], document["by"]) == (costs.date_of(TODAY - 1), "key")
    assert (document["cost_usd"], document["estimated_usd"]) == (1.37, 0.12)
    assert document["costs"][1] == {
        "key": "bob",
        "executions": 1,
        "cost_usd": None,
        "estimated_usd": 0,
        "unknown_costs": 1,
        "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
    }


@pytest.mark.parametrize(
    ("since", "problem"),
    [
        ("x", '--since: must be a number of seconds, or like "30s", "15m", "6h", "7d" (got "x")'),
        ("93d", "--since: costs are kept for 92 days (got 93d)"),
    ],
)
def test_a_time_that_cannot_be(clinvk: Clinvk, since: str, problem: str) -> None:
    done = clinvk("costs", "--since", since)
    assert (done.status, done.stdout, done.stderr) == (2, "", f"clinvk: {problem}\n")


def test_without_a_broker_the_runs_of_this_machine_count(clinvk: Clinvk, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"runs: {{dir: {tmp_path / 'runs'}}}")
    assert clinvk("costs", "--config", str(config)).stdout == "nothing was spent\n"
    directory = tmp_path / "runs" / RUNS[0]
    directory.mkdir(parents=True, mode=0o700)
    labels = json.dumps([TODAY, "ann", "claude", "opus"])
    run = RunSummary(run_id=RUNS[0], total=1, created_ms=1, ended_ms=2, state="done")
    spending = Spending(executions=1, cli_micro_usd=1_250_000)
    summary = Summary(run, "/s", ledger={labels: str(spending), '[1,"","old",""]': str(spending)})
    (directory / "summary.json").write_text(summary.dump())
    lines = clinvk("costs", "--config", str(config), "--by", "model").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["opus", "$1.25"], ["total", "$1.25"]]
