"""Budgets as users meet them: real processes, and a `claude` that costs what its prompt says."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import harness, limited_claude, priced_claude
from tests.local.commands.test_durable_runs import kill_all
from tests.meter import Allowance

pytestmark = pytest.mark.usefixtures("temporary")


class Runs:
    """Commands in a directory with a priced `claude`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = limited_claude.install(folder, Allowance(), priced_claude.__name__)
        self._environment = {
            "PATH": f"{path}{os.pathsep}{os.environ['PATH']}",
            "CLINVK_CONFIG": str(folder / "config.yaml"),
        }
        self.configure()

    def configure(self, **budgets: object) -> None:
        """Set the budgets."""
        config = {"worker": {"sandbox": "off"}, "budgets": {"estimate_usd": 0.01, **budgets}}
        (self.folder / "config.yaml").write_text(json.dumps(config))

    def run(self, *arguments: str, prompts: tuple[str, ...] = ()) -> harness.Completed:
        stdin = tasks(prompts) if prompts else None
        return harness.clinvk(*arguments, stdin=stdin, cwd=self.folder, env=self._environment)

    @contextlib.contextmanager
    def started(self, *arguments: str, prompts: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
        """Have a run go on."""
        (self.folder / "tasks.json").write_text(tasks(prompts))
        process = subprocess.Popen(
            [*harness.CLINVK, *arguments, "--file", "tasks.json"],
            stdout=subprocess.DEVNULL,
            text=True,
            cwd=self.folder,
            env=os.environ | self._environment,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def json(self, *arguments: str, prompts: tuple[str, ...] = ()) -> Any:
        done = self.run(*arguments, "--json", prompts=prompts)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def started_tasks(self) -> list[str]:
        """Return the tasks that were started, in order."""
        log = self.folder / "costs.log"
        rows = (line.split() for line in log.read_text().splitlines()) if log.exists() else ()
        return [name for what, name, _ in rows if what == "start"]


def tasks(prompts: tuple[str, ...]) -> str:
    return json.dumps([{"backend": "claude", "prompt": prompt} for prompt in prompts])


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def ends(document: Any) -> list[tuple[str, str | None]]:
    return [(each["status"], each.get("error_kind")) for each in document["results"]]


def test_what_a_budget_stops_says_so(runs: Runs) -> None:
    runs.configure(on_budget="stop")
    prompts = ("long 60 0.1", "dear 0.5 2", "more 0 0.1")
    options = ("--max-cost", "1", "--max-parallel", "2")
    document = runs.json("parallel", *options, prompts=prompts)
    assert ends(document) == [("canceled", "budget"), ("ok", None), ("canceled", "budget")]
    errors = [document["results"][index]["error"] for index in (0, 2)]
    assert errors == [
        "canceled (its run came to a budget)",
        "not started: it would go over a budget",
    ]
    budget = document["budget"]
    assert budget.pop("cost_usd")["limit"] == 1
    assert budget == {"stopped": True, "stopped_by": "run"}
    assert runs.json("status", "last")["budget"] == document["budget"] | {
        "cost_usd": {"limit": 1, "spent": 2.0, "assumed": 0.01, "reserved": 0, "left": 0}
    }


def test_a_resumed_run_counts_what_others_spent_since(runs: Runs) -> None:
    runs.configure(day=1)
    options = ("parallel", "--max-wait", "0", "--max-parallel", "1")
    with runs.started(*options, prompts=("one 5 0.1", "two 0 0.1")) as client:
        harness.wait_until(lambda: runs.started_tasks() == ["one"], "the first task")
        kill_all(client)
    (interrupted,) = runs.json("runs")
    assert interrupted["state"] == "interrupted"
    runs.run(*options, prompts=("dear 0 0.9",))
    resumed = runs.run("resume", interrupted["run_id"], "--json")
    assert ends(json.loads(resumed.stdout)) == [("canceled", "budget")] * 2
    assert "today's budget is used up" in resumed.stderr
    assert runs.started_tasks() == ["one", "dear"]


def test_a_retried_run_counts_its_own_spending_once(runs: Runs) -> None:
    runs.configure(day=1)
    run = runs.json("parallel", "--max-wait", "0", prompts=("one 0 0.4",))["run_id"]
    document = runs.json("retry", run, "--all")
    assert ends(document) == [("ok", None)]
    assert document["cost_usd"] == 0.8
