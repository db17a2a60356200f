"""The command as its users run it: real processes, a real terminal, a real local fleet."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import harness
from tests.harness import EXAMPLES, clinvk

pytestmark = pytest.mark.usefixtures("temporary")


def test_the_newcomers_first_command() -> None:
    ended = clinvk("parallel", "--file", str(EXAMPLES / "tasks.json"))
    lines = ended.stdout.splitlines()
    assert (ended.status, ended.stderr) == (0, "")
    assert lines[:5] == [
        "Running 3 tasks (max 3 parallel)...",
        "",
        "[3] Generated 5 test cases",
        "[1] The auth module looks good",
        "[2] Added logging statements",
    ]
    assert lines[-1].startswith("Total: 3 tasks, 3 completed, 0 failed (")


def test_the_settings_of_clinvk_are_hidden_from_a_cli(tmp_path: Path) -> None:
    """They may hold a password. The two that stay mark the CLI's processes as a task's."""
    code = "import os; print(sorted(name for name in os.environ if name.startswith('CLINVK_')))"
    tool = {"command": [sys.executable, "-c", code]}
    (tmp_path / "config.yaml").write_text(json.dumps({"backends": {"tool": tool}}))
    ended = clinvk(
        *("parallel", "--json", "--quiet", "--config", "config.yaml"),
        stdin=json.dumps([{"backend": "tool", "prompt": "x"}]),
        cwd=tmp_path,
        env={"CLINVK_OUTPUT_DIR": str(tmp_path / "out"), "CLINVK_FOO": "x"},
    )
    (result,) = json.loads(ended.stdout)["results"]
    assert result["output"].strip() == "['CLINVK_OWNER', 'CLINVK_TASK']"


def test_fail_fast_ends_the_run_early() -> None:
    tasks = [{"backend": "echo", "prompt": prompt} for prompt in ("[wait 600]", "[fail]", "x", "y")]
    body = json.dumps({"tasks": tasks, "max_parallel": 2, "fail_fast": True})
    ended = clinvk("parallel", "--json", stdin=body)
    assert ended.status == 1
    results = json.loads(ended.stdout)["results"]
    assert [result["status"] for result in results] == ["canceled", "failed"] + ["canceled"] * 2
    assert [result["exit_code"] for result in results] == [-1, 1, -1, -1]


def test_tasks_that_cannot_start_here(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("backends: {gone: {command: [no-such-program]}}")
    (tmp_path / "file").touch()
    tasks = [
        {"backend": "gone", "prompt": "x"},
        {"backend": "echo", "prompt": "x", "workdir": "nowhere"},
        {"backend": "echo", "prompt": "x", "workdir": "file"},
    ]
    ended = clinvk(
        "parallel",
        "--json",
        "--config",
        "config.yaml",
        stdin=json.dumps({"tasks": tasks}),
        cwd=tmp_path,
    )
    results = json.loads(ended.stdout)["results"]
    assert [(result["error_kind"], result["exit_code"]) for result in results] == [
        ("not_installed", -1),
        ("invalid", -1),
        ("invalid", -1),
    ]
    worker = results[0]["worker"]
    assert results[0]["error"] == (
        f"no-such-program is not installed on worker {worker}: "
        "see backends.gone.command in the configuration"
    )
    assert results[1]["error"] == f"workdir nowhere does not exist on worker {worker}"


def test_a_broker_that_is_not_there_is_exit_4() -> None:
    url = "redis://:password@127.0.0.1:1/0"
    ended = clinvk("parallel", "--broker", url, stdin='{"backend": "echo", "prompt": "x"}')
    assert (ended.status, ended.stdout) == (4, "")
    assert ended.stderr.startswith("clinvk: cannot use the broker redis://:***@127.0.0.1:1/0: ")
    assert ended.stderr.count("\n") == 1


def long_tasks(tmp_path: Path) -> str:
    tasks = [{"backend": "echo", "prompt": "done at once"}]
    tasks += [{"backend": "echo", "prompt": "[wait 600]"}] * 3
    (tmp_path / "long.json").write_text(json.dumps({"tasks": tasks}))
    return "long.json"


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*harness.CLINVK, "parallel", "-f", long_tasks(tmp_path), *arguments],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(stream: object, text: str) -> None:
    assert stream is not None
    for line in stream:  # type: ignore[attr-defined]
        if text in line:
            return
    raise AssertionError(f"{text!r} did not come")


def test_interrupted_once_prints_all_in_order(tmp_path: Path) -> None:
    process = start(tmp_path, "--json")
    read_until(process.stderr, "[1/4] echo OK")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    assert process.returncode == 130
    results = json.loads(stdout)["results"]
    assert [result["status"] for result in results] == ["ok", "canceled", "canceled", "canceled"]
    assert "Canceling" in stderr


def test_on_a_terminal_the_display_is_drawn_and_taken_away(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*harness.CLINVK, "parallel", "-f", str(EXAMPLES / "tasks.json")],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "60", "LINES": "20"},
    )
    os.close(slave)
    screen = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not chunk:
            break
        screen += chunk
    os.close(master)
    assert process.wait() == 0
    shown = screen.decode()
    assert "3 running" in shown
    assert "\x1b[2K" in shown  # lines of the display are erased again
    last = shown.rsplit("\x1b", 1)[1]
    assert "Total: 3 tasks, 3 completed, 0 failed" in last
    assert "running" not in last
