"""Streams and terminals as they should not be: closed, full, gone, of another encoding."""

from __future__ import annotations

import json
import os
import pty
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import harness
from tests.harness import clinvk

TASK = '{"backend": "echo", "prompt": "naïve 漢字"}'


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process and no directory of any command survives the test."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    yield
    harness.wait_until(
        lambda: not harness.of_directory(str(temporary)), "all processes of the command to end"
    )
    assert list(temporary.iterdir()) == []


def in_shell(line: str, tmp_path: Path, **environment: str) -> harness.Completed:
    (tmp_path / "t.json").write_text(TASK)
    python = f"exec {sys.executable} -m clinvk parallel -q -f t.json --output-dir out "
    shell = ["sh", "-c", line.replace("clinvk ", python)]
    ended = clinvk(command=shell, cwd=tmp_path, env=environment)
    if ended.status == 0:
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert summary["results"][0]["output"] == "naïve 漢字"
    return ended


def test_closed_streams_are_no_streams(tmp_path: Path) -> None:
    ended = in_shell("clinvk <&- >&- 2>&-", tmp_path)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_standard_output(tmp_path: Path) -> None:
    ended = in_shell("clinvk >/dev/full", tmp_path)
    assert ended.status == 1
    assert ended.stderr == (
        "clinvk: cannot write to standard output (No space left on device); the run continues\n"
    )
    assert (tmp_path / "out" / "summary.json").exists()


def test_a_terminal_that_closes_cancels_the_run_and_saves_what_there_is(tmp_path: Path) -> None:
    done, wait = (
        '{"backend": "echo", "prompt": "done"}',
        '{"backend": "echo", "prompt": "[wait 600]"}',
    )
    (tmp_path / "t.json").write_text(f"{done}\n{wait}")
    arguments = ["parallel", "-f", str(tmp_path / "t.json"), "--output-dir", str(tmp_path / "out")]
    pid, master = pty.fork()
    if pid == 0:  # its controlling terminal is the pty
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, [*harness.CLINVK, *arguments])
    harness.wait_until((tmp_path / "out" / "001_echo.json").exists, "the first task to end")
    os.close(master)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [result["status"] for result in summary["results"]] == ["ok", "canceled"]
