"""Budgets as users meet them: real processes, and a `claude` that costs what its prompt says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests import harness, limited_claude, priced_claude
from tests.meter import Allowance

pytestmark = pytest.mark.usefixtures("temporary")


class Runs:
    """Commands in a directory with a priced `claude`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = limited_claude.install(folder, Allowance(), priced_claude.__name__)
        self.configure()

    def configure(self, **budgets: object) -> None:
        """Set the budgets."""
        config = {"worker": {"sandbox": "off"}, "budgets": {"estimate_usd": 0.01, **budgets}}
        (self.folder / "config.yaml").write_text(json.dumps(config))

    def run(self, *arguments: str, prompts: tuple[str, ...] = ()) -> harness.Completed:
        tasks = [{"backend": "claude", "prompt": prompt} for prompt in prompts]
        env = {
            "PATH": f"{self._path}{os.pathsep}{os.environ['PATH']}",
            "CLINVK_CONFIG": str(self.folder / "config.yaml"),
        }
        stdin = json.dumps(tasks) if tasks else None
        return harness.clinvk(*arguments, stdin=stdin, cwd=self.folder, env=env)

    def json(self, *arguments: str, prompts: tuple[str, ...] = ()) -> Any:
        done = self.run(*arguments, "--json", prompts=prompts)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)


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
