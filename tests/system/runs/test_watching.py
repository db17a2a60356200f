"""What a person sees of agents at work, on terminals of several widths, and what stays of it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from contextlib import suppress

import pyte
import pytest

from tests import harness
from tests.local.commands.test_watching import Agents, agents

__all__ = ["agents"]


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


def test_a_killed_client_still_has_its_transcripts(agents: Agents) -> None:
    process = agents.start("--output-dir", "out", "-q")
    agents.go(3)
    harness.wait_until(lambda: len(agents.transcript()) == 3, "three lines of the transcript")
    process.kill()
    process.communicate()
    assert [line["type"] for line in agents.transcript()] == ["system", "assistant", "assistant"]
    assert not (agents.directory / "out" / "001_claude.json").exists()


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
