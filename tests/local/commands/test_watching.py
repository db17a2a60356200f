"""What a person sees of agents at work: the display on a terminal, lines of -v, transcripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import harness

EVENTS = 7
"""How many events the fake CLI prints."""
TASKS = [
    {"backend": "claude", "prompt": "review the auth module and say what is wrong"},
    {"backend": "claude", "prompt": "漢字 generate tests"},
]


class Agents:
    """The fake CLI, and how far it may go; the commands that are run with it."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self._environment = environment
        self._allowed = 0

    def go(self, events: int = EVENTS) -> None:
        """Let each agent print so many events in all."""
        for number in range(self._allowed, events):
            (self.directory / f"go.{number}").touch()
        self._allowed = events

    def start(self, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start a run of the tasks."""
        return subprocess.Popen(
            [*harness.CLINVK, "parallel", "-f", "tasks.json", *arguments],
            cwd=self.directory,
            stdout=subprocess.PIPE if stderr == subprocess.PIPE else stderr,
            stderr=stderr,
            text=True,
            env=self._environment,
        )

    def transcript(self, name: str = "001_claude") -> list[dict[str, object]]:
        """The lines of a transcript."""
        path = self.directory / "out" / f"{name}.transcript.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def agents(tmp_path: Path, temporary: Path) -> Iterator[Agents]:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "claude"
    script = Path(__file__).with_name("streaming_cli.py")
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {script} {tmp_path} "$@"\n')
    program.chmod(0o755)
    (tmp_path / "tasks.json").write_text(json.dumps(TASKS))
    path = f"{program.parent}:{os.environ['PATH']}"
    sizes = {"COLUMNS", "LINES"}  # the terminal's own counts
    environment = {name: value for name, value in os.environ.items() if name not in sizes}
    found = Agents(tmp_path, environment | {"PATH": path, "TERM": "xterm-256color"})
    yield found
    found.go()


LINES = [
    "I read the tests first.",
    "Bash pytest -q tests/unit",
    "result: ok, 300 B",
    "Edit src/auth/session_tokens.py",
    "result: ok, 300 B",
]


def test_v_prints_steps_as_lines_and_leaves_stdout_alone(agents: Agents) -> None:
    agents.go()
    process = agents.start("-v", "--json", "--quiet")
    out, err = process.communicate(timeout=harness.TIMEOUT_SECONDS)
    assert [entry["status"] for entry in json.loads(out)["results"]] == ["ok", "ok"]
    for number in (1, 2):
        assert [line[4:] for line in err.splitlines() if line.startswith(f"[{number}]")] == LINES
    assert len(err.splitlines()) == 2 * len(LINES)


def test_transcripts_are_whole_when_the_run_has_ended(agents: Agents) -> None:
    agents.go()
    process = agents.start("--output-dir", "out", "-q")
    process.communicate(timeout=harness.TIMEOUT_SECONDS)
    for name in ("001_claude", "002_claude"):
        assert len(agents.transcript(name)) == EVENTS
        path = agents.directory / "out" / f"{name}.transcript.jsonl"
        assert path.stat().st_mode & 0o777 == 0o600
