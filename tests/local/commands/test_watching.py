"""What a person sees of agents at work: the display on a terminal, lines of -v, transcripts."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyte
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


class Terminal:
    """A terminal of a size, and what it shows."""

    def __init__(self, columns: int, rows: int = 14) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._ours, self.theirs = pty.openpty()
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, size)
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # the other end is closed
            while piece := os.read(self._ours, 65536):
                with self._lock:
                    self._stream.feed(piece)

    def lines(self) -> list[str]:
        """What it shows, without times."""
        with self._lock:
            shown = [line.rstrip() for line in self._screen.display]
        return [re.sub(r" +\d+\.\d+s(?= \[)|\d+\.\d+s", " T", line) for line in shown if line]

    def close(self) -> None:
        """Wait for what was still written."""
        os.close(self.theirs)
        self._reader.join()
        os.close(self._ours)


NARROW = """
 T [1] review the...  Bash pytest -q t...  12.0k tok
 T [2] 漢字 gener...  Bash pytest -q t...  12.0k tok"""
MIDDLE = """
 T [1] claude review the auth module...  Bash pytest -q tests/unit  12.0k tok
 T [2] claude 漢字 generate tests  Bash pytest -q tests/unit  12.0k tok"""
WIDE = """
 T [1] claude review the auth module and say what is wrong  Bash pytest -q tests/unit  12.0k tok
 T [2] claude 漢字 generate tests  Bash pytest -q tests/unit  12.0k tok"""


@pytest.mark.parametrize(("columns", "text"), [(60, NARROW), (100, MIDDLE), (160, WIDE)])
def test_the_display_shows_what_each_agent_does(agents: Agents, columns: int, text: str) -> None:
    terminal = Terminal(columns)
    process = agents.start(stderr=terminal.theirs)
    agents.go(3)
    harness.wait_until(
        lambda: "".join(terminal.lines()).count("12.0k tok") == 2, "the call in both rows"
    )
    rows = [line for line in terminal.lines() if line.startswith(" T [")]
    assert [re.sub(r" {2,}", "  ", row) for row in rows] == text.splitlines()[1:]
    agents.go()
    assert process.wait(harness.TIMEOUT_SECONDS) == 0
    terminal.close()
    lines = terminal.lines()
    assert not any(re.search(r"tok\b|running", line) for line in lines)
    assert any(line.startswith("[2] Done: 漢") for line in lines)


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


def test_a_killed_client_still_has_its_transcripts(agents: Agents) -> None:
    process = agents.start("--output-dir", "out", "-q")
    agents.go(3)
    harness.wait_until(lambda: len(agents.transcript()) == 3, "three lines of the transcript")
    process.kill()
    process.communicate()
    assert [line["type"] for line in agents.transcript()] == ["system", "assistant", "assistant"]
    assert not (agents.directory / "out" / "001_claude.json").exists()


def test_transcripts_are_whole_when_the_run_has_ended(agents: Agents) -> None:
    agents.go()
    process = agents.start("--output-dir", "out", "-q")
    process.communicate(timeout=harness.TIMEOUT_SECONDS)
    for name in ("001_claude", "002_claude"):
        assert len(agents.transcript(name)) == EVENTS
        path = agents.directory / "out" / f"{name}.transcript.jsonl"
        assert path.stat().st_mode & 0o777 == 0o600


def test_no_transcripts_where_the_user_wants_less_kept(
    agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    (agents.directory / "c.yaml").write_text("steps: summary\noutput_dir: out\n")
    agents.go()
    process = agents.start("-q", "--config", "c.yaml")
    assert process.communicate(timeout=harness.TIMEOUT_SECONDS)[1] == ""
    assert sorted(path.name for path in (agents.directory / "out").iterdir()) == [
        *("001_claude.json", "002_claude.json", "summary.json"),
    ]
