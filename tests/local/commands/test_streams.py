"""Streams and terminals as they should not be: closed, full, gone, of another encoding."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
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


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_stream(redirection: str, tmp_path: Path) -> None:
    ended = in_shell(f"clinvk {redirection}", tmp_path)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Total: 1 tasks") is (">&-" not in redirection.split())


def test_no_task_file_and_no_standard_input() -> None:
    ended = clinvk(command=["sh", "-c", f"exec {sys.executable} -m clinvk parallel <&-"])
    assert (ended.status, ended.stdout, ended.stderr) == (2, "", "<stdin>: is empty\n")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_output_is_utf8_in_every_locale(encoding: str, tmp_path: Path) -> None:
    ended = in_shell("clinvk --json", tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (ended.status, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["results"][0]["output"] == "naïve 漢字"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_standard_output(tmp_path: Path) -> None:
    ended = in_shell("clinvk >/dev/full", tmp_path)
    assert ended.status == 1
    assert ended.stderr == (
        "clinvk: cannot write to standard output (No space left on device); the run continues\n"
    )
    assert (tmp_path / "out" / "summary.json").exists()


def test_nohup_means_that_a_hangup_changes_nothing(tmp_path: Path) -> None:
    task = '{"backend": "echo", "prompt": "[wait 0.3] x"}'
    process = subprocess.Popen(
        ["sh", "-c", f"trap '' HUP; exec {sys.executable} -m clinvk parallel --json"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write('{"backend": "echo", "prompt": "first"}\n' + task)
    process.stdin.close()
    assert process.stderr.readline().startswith("[1/2] echo OK")
    process.send_signal(signal.SIGHUP)
    assert process.stderr.readline().startswith("[2/2] echo OK")
    process.stderr.close()
    assert process.stdout is not None
    assert json.loads(process.stdout.read())["completed"] == 2
    process.stdout.close()
    assert process.wait() == 0


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
