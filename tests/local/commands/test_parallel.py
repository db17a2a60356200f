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


def test_one_failure_is_exit_1_and_the_rest_still_runs() -> None:
    ended = clinvk("parallel", "--file", str(EXAMPLES / "tasks.yaml"), "--json")
    assert ended.status == 1
    document = json.loads(ended.stdout)
    assert [result["status"] for result in document["results"]] == ["ok", "failed", "ok"]
    assert document["results"][1]["error"] == "API Error: 429 rate_limit_error"


def test_the_head_of_json_lines_is_a_task_file(tmp_path: Path) -> None:
    first = (EXAMPLES / "tasks.jsonl").read_text().splitlines()[:2]
    (tmp_path / "batch1.json").write_text("\n".join(first) + "\n")
    ended = clinvk("parallel", "--file", "batch1.json", "-q", cwd=tmp_path)
    assert ended.stdout.startswith("Total: 2 tasks, 2 completed, 0 failed")


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


def test_generated_tasks_are_piped_in(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    generated = subprocess.run(
        [sys.executable, EXAMPLES / "generate-tasks.py", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    ended = clinvk("parallel", "--json", "-q", stdin=generated)
    (result,) = json.loads(ended.stdout)["results"]
    assert result["output"] == f"Write unit tests for {tmp_path}/a.py"


def test_one_after_the_other() -> None:
    tasks = "".join(
        json.dumps({"backend": "echo", "prompt": f"[wait 0.{9 - n}] {n}"}) + "\n" for n in range(4)
    )
    ended = clinvk("parallel", "--max-parallel", "1", stdin=tasks)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("[")]
    assert lines == [f"[{n + 1}] {n}" for n in range(4)]


def test_fail_fast_ends_the_run_early() -> None:
    tasks = [{"backend": "echo", "prompt": prompt} for prompt in ("[wait 600]", "[fail]", "x", "y")]
    body = json.dumps({"tasks": tasks, "max_parallel": 2, "fail_fast": True})
    ended = clinvk("parallel", "--json", stdin=body)
    assert ended.status == 1
    results = json.loads(ended.stdout)["results"]
    assert [result["status"] for result in results] == ["canceled", "failed"] + ["canceled"] * 2
    assert [result["exit_code"] for result in results] == [-1, 1, -1, -1]


def test_a_timeout_is_told_as_such() -> None:
    task = {"backend": "echo", "prompt": "[wait 600]", "timeout_seconds": 0.5}
    ended = clinvk("parallel", "--json", stdin=json.dumps(task))
    (result,) = json.loads(ended.stdout)["results"]
    assert (result["status"], result["exit_code"], result["error"]) == (
        "timeout",
        -1,
        "stopped after 0.5 s",
    )


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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_once_prints_all_in_order(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    process = start(tmp_path, "--json")
    read_until(process.stderr, "[1/4] echo OK")
    process.send_signal(number)
    stdout, stderr = process.communicate()
    assert process.returncode == status
    results = json.loads(stdout)["results"]
    assert [result["status"] for result in results] == ["ok", "canceled", "canceled", "canceled"]
    assert "Canceling" in stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_once_without_its_socket(
    tmp_path: Path, temporary: Path, number: signal.Signals, status: int
) -> None:
    """Whoever cleans /tmp may remove the server's socket: connections that stand must do."""
    process = start(tmp_path, "--json")
    read_until(process.stderr, "[1/4] echo OK")
    (socket,) = temporary.glob("clinvk-*/server.sock")
    socket.unlink()
    process.send_signal(number)
    try:
        stdout, stderr = process.communicate(timeout=harness.TIMEOUT_SECONDS)
    finally:
        process.kill()
    assert process.returncode == status, stderr
    results = json.loads(stdout)["results"]
    assert [result["status"] for result in results] == ["ok", "canceled", "canceled", "canceled"]


def test_interrupted_twice_leaves_at_once(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "backends: {stubborn: {command: "
        "[sh, -c, \"trap '' TERM; touch started; while :; do sleep 1; done\"]}}"
    )
    process = subprocess.Popen(
        [*harness.CLINVK, "parallel", "--config", "config.yaml"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write('{"backend": "stubborn", "prompt": "x"}')
    process.stdin.close()
    harness.wait_until((tmp_path / "started").exists, "the task to start")
    process.send_signal(signal.SIGINT)
    read_until(process.stderr, "Canceling")
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def test_a_reader_that_goes_away_does_not_stop_the_run(tmp_path: Path) -> None:
    tasks = "".join(
        json.dumps({"backend": "echo", "prompt": f"[wait 0.{n}] {n}"}) + "\n" for n in range(8)
    )
    process = subprocess.Popen(
        [*harness.CLINVK, "parallel", "--output-dir", "out"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(tasks)
    process.stdin.close()
    process.stdout.readline()
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert stderr == ("clinvk: cannot write to standard output (Broken pipe); the run continues\n")
    assert len(list((tmp_path / "out").iterdir())) == 2 * 8 + 1  # results, transcripts, summary


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


def test_a_dumb_terminal_gets_no_display() -> None:
    master, slave = pty.openpty()
    done = subprocess.run(
        [*harness.CLINVK, "parallel", "-f", str(EXAMPLES / "tasks.jsonl")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**os.environ, "TERM": "dumb"},
        check=True,
    )
    os.close(slave)
    os.set_blocking(master, False)
    with pytest.raises(OSError):  # noqa: PT011  (EAGAIN or EIO: nothing was written)
        os.read(master, 1)
    os.close(master)
    assert b"Total: 3 tasks" in done.stdout


POISON = {
    "flood": "i=0; while [ $i -lt 300 ]; do head -c 65536 /dev/zero; i=$((i+1)); done",
    "crash": "kill -SEGV $$",
    "deaf": "trap '' TERM; while :; do sleep 1; done",
    "fork": "(setsid sleep 600 &) ; echo gone",
    "noread": "exec 0<&-; echo did not read",
    "bytes": r"printf 'a\377\000b'",
    "bigerr": "i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done; exit 9",
}


def test_poison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CLIs that misbehave, as programs on PATH: a true result for each, nothing left of any."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in POISON.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    config = {
        "backends": {name: {"command": [name]} for name in POISON},
        "limits": {"spill_dir": str(tmp_path / "spill")},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    tasks = [{"backend": name, "prompt": "x" * 200_000, "timeout_seconds": 5} for name in POISON]
    ended = clinvk(
        *("parallel", "--json", "-q", "--config", "config.yaml"),
        stdin=json.dumps({"tasks": tasks, "max_parallel": 4}),
        cwd=tmp_path,
    )
    results = {result["backend"]: result for result in json.loads(ended.stdout)["results"]}
    told = {name: (result["status"], result["exit_code"]) for name, result in results.items()}
    assert told == {
        "flood": ("ok", 0),
        "crash": ("failed", -signal.SIGSEGV),
        "deaf": ("timeout", -1),
        "fork": ("ok", 0),
        "noread": ("ok", 0),
        "bytes": ("ok", 0),
        "bigerr": ("failed", 9),
    }
    assert len(results["flood"]["output"]) == 10 << 20
    assert Path(results["flood"]["output_file"]).stat().st_size == 300 * 65536
    assert results["fork"]["warnings"] == ["fork left processes running; they were stopped"]
    assert results["bytes"]["output"] == "a\ufffd\0b"
    assert results["bigerr"]["error"] == "line 19999"
