"""Streams and terminals as they should not be, beside those of tests/local."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import clinvk
from tests.local.commands.test_streams import in_shell, nothing_left

__all__ = ["nothing_left"]


def test_no_task_file_and_no_standard_input() -> None:
    ended = clinvk(command=["sh", "-c", f"exec {sys.executable} -m clinvk parallel <&-"])
    assert (ended.status, ended.stdout, ended.stderr) == (2, "", "<stdin>: is empty\n")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_output_is_utf8_in_every_locale(encoding: str, tmp_path: Path) -> None:
    ended = in_shell("clinvk --json", tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (ended.status, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["results"][0]["output"] == "naïve 漢字"


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


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_no_stream(redirection: str, tmp_path: Path) -> None:
    ended = in_shell(f"clinvk {redirection}", tmp_path)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Total: 1 tasks") is (">&-" not in redirection.split())
