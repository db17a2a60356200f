"""`--reuse` as its users run it: real processes, which write down what they do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.harness import clinvk
from tests.unit.git.checkouts import repository

pytestmark = pytest.mark.usefixtures("temporary")

CLI = """
import os, sys
prompt = sys.stdin.read()
with open(os.environ["LOG"], "a") as log:
    log.write(prompt.splitlines()[0] + "\\n")
if prompt == "fail":
    sys.exit("no")
print("did", prompt)
"""


class Home:
    """A checkout, with a task file in it, and a CLI that writes down its prompts."""

    def __init__(self, folder: Path) -> None:
        self.top = repository(folder / "repo")
        self.log = folder / "log"
        tool = {"command": [sys.executable, "-c", CLI], "env": {"LOG": str(self.log)}}
        (folder / "config.yaml").write_text(json.dumps({"backends": {"tool": tool}}))
        self._config = {"CLINVK_CONFIG": str(folder / "config.yaml")}

    def run(self, command: str, key: str, prompts: list[str], *options: str) -> harness.Completed:
        self.log.write_text("")
        tasks = [{"backend": "tool", "prompt": prompt} for prompt in prompts]
        (self.top / "tasks.json").write_text(json.dumps({key: tasks}))
        return clinvk(
            *(command, "-f", "tasks.json", "--reuse", *options), cwd=self.top, env=self._config
        )

    def ran(self) -> list[str]:
        return sorted(self.log.read_text().splitlines())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def reused(done: harness.Completed) -> list[Any]:
    return [entry.get("reused") for entry in json.loads(done.stdout)["results"]]


def test_a_chain_reuses_its_beginning(home: Home) -> None:
    steps = ["one", "two {{previous}}", "three {{previous}}"]
    home.run("chain", "steps", steps)
    steps[1] = "2 {{previous}}"
    done = home.run("chain", "steps", steps, "--json")
    assert home.ran() == ["2 did one", "three did 2 did one"]
    assert [run is not None for run in reused(done)] == [True, False, False]
