"""`clinvk retry` as its users run it: real processes, and a local run that has ended."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.harness import clinvk

pytestmark = pytest.mark.usefixtures("temporary")

CLI = """
import pathlib, sys, time
prompt = sys.stdin.read()
if prompt == "once" and not pathlib.Path("done").exists():
    pathlib.Path("done").touch()
    sys.exit("not yet")
if prompt == "wait":
    pathlib.Path("waits").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
print("fine:", prompt)
"""


class Runs:
    """Commands in a directory with a CLI of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        tool = {"command": [sys.executable, "-c", CLI]}
        config = {"backends": {"tool": tool}}
        (directory / "config.yaml").write_text(json.dumps(config))
        self._config = {"CLINVK_CONFIG": str(directory / "config.yaml")}

    def run(self, *arguments: str, stdin: str | None = None) -> harness.Completed:
        return clinvk(*arguments, stdin=stdin, cwd=self.directory, env=self._config)

    def submit(self, *prompts: str) -> str:
        """Run tasks to their end; returns the run's id."""
        tasks = [
            {"backend": "tool", "prompt": prompt, "workdir": str(self.directory)}
            for prompt in prompts
        ]
        done = self.run("parallel", "--json", stdin=json.dumps({"tasks": tasks, "max_parallel": 1}))
        run: str = json.loads(done.stdout)["run_id"]
        return run

    def results(self, run: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("results", run, "--json").stdout)[
            "results"
        ]
        return found


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_what_failed_runs_again_in_the_same_run(runs: Runs) -> None:
    run = runs.submit("one", "once", "three")
    done = runs.run("retry", run, "--json")
    document = json.loads(done.stdout)
    assert (done.status, document["run_id"], document["completed"]) == (0, run, 3)
    outputs = ["fine: one", "fine: once", "fine: three"]
    assert [entry["output"].strip() for entry in document["results"]] == outputs
    assert [each["error"] for each in document["results"][1]["tried"]] == ["not yet"]
    assert [entry["output"].strip() for entry in runs.results(run)] == outputs


def test_what_a_run_requires_is_required_of_a_retry(tmp_path: Path) -> None:
    file = {"backend": "echo", "prompt": "hi"}
    required = {"echo": ">=3", "tags": ["gpu"]}
    body = json.dumps({"tasks": [file] * 2, "requires": required})
    tagged = {"CLINVK_WORKER_TAGS": "gpu,eu"}
    done = clinvk("parallel", "--json", "--quiet", stdin=body, cwd=tmp_path, env=tagged)
    assert (done.status, done.stderr) == (0, "")
    run = json.loads(done.stdout)["run_id"]
    refused = clinvk("retry", run, "--all", cwd=tmp_path)
    assert (refused.status, refused.stdout) == (4, "")
    assert "does not have what the run requires of echo (echo >=3, tags gpu)" in refused.stderr
    done = clinvk("retry", run, "--all", "--quiet", cwd=tmp_path, env=tagged)
    assert (done.status, done.stderr) == (0, "")
    assert json.loads(clinvk("status", run, "--json", cwd=tmp_path).stdout)["requires"] == required
