"""`--reuse` as its users run it: many tasks of which some have changed, and no repository."""

from __future__ import annotations

import json
import os

import pytest

from tests.local.commands.test_reuse import Home, home, reused

__all__ = ["home"]

pytestmark = pytest.mark.usefixtures("temporary")


def test_what_has_changed_is_run_and_nothing_else(home: Home) -> None:
    prompts = [f"p{number}" for number in range(20)] + ["fail"]
    first = json.loads(home.run("parallel", "tasks", prompts, "--json").stdout)
    assert len(home.ran()) == 21
    prompts[3] = prompts[11] = "new"
    again = home.run("parallel", "tasks", prompts, "--json")
    assert home.ran() == ["fail", "new", "new"]
    document = json.loads(again.stdout)
    whole = [f"{first['run_id']}/{index}" for index in range(20)] + [None]
    whole[3] = whole[11] = None
    assert reused(again) == whole
    assert document["results"][5]["output"] == "did p5"
    assert document["unknown_costs"] == 3, "what is reused costs nothing"
    text = home.run("parallel", "tasks", ["p5", "other"], "--no-step-summary").stdout
    row = next(line for line in text.splitlines() if "reused" in line)
    assert row.split() == ["1", "tool", "OK", "reused", "p5"]
    (home.top / "README").write_text("changed\n")
    home.run("parallel", "tasks", ["p5"])
    assert home.ran() == ["p5"], "the checkout is another one"


def test_outside_of_a_repository_the_task_must_ask_for_it_itself(home: Home) -> None:
    os.rename(home.top / ".git", home.top / "no-git")  # noqa: PTH104
    for _ in range(2):
        done = home.run("parallel", "tasks", ["p"], "--json")
        assert home.ran() == ["p"]
    (warning,) = json.loads(done.stdout)["results"][0]["warnings"]
    assert "it is in no git repository" in warning
    assert "reuse: true in the task" in warning
