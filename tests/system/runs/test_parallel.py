"""The command as its users run it, where it is interrupted, or what it runs misbehaves."""

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
from tests.local.commands.test_parallel import read_until, start

pytestmark = pytest.mark.usefixtures("temporary")


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


def test_a_timeout_is_told_as_such() -> None:
    task = {"backend": "echo", "prompt": "[wait 600]", "timeout_seconds": 0.5}
    ended = clinvk("parallel", "--json", stdin=json.dumps(task))
    (result,) = json.loads(ended.stdout)["results"]
    assert (result["status"], result["exit_code"], result["error"]) == (
        "timeout",
        -1,
        "stopped after 0.5 s",
    )


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
