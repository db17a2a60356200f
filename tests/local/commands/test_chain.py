"""Chains and comparisons as their users run them: real processes, a real local fleet."""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import harness
from tests.harness import EXAMPLES, clinvk

pytestmark = pytest.mark.usefixtures("temporary")


def chain(*steps: dict[str, Any] | str, **options: Any) -> tuple[int, dict[str, Any]]:
    """Run a chain; a step that is only a prompt goes to echo."""
    whole = [{"backend": "echo", "prompt": s} if isinstance(s, str) else s for s in steps]
    ended = clinvk("chain", "--json", "-q", stdin=json.dumps({"steps": whole} | options))
    return ended.status, json.loads(ended.stdout)


def told(document: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(result["status"], result.get("output")) for result in document["results"]]


def test_what_a_step_says_is_in_the_prompts_of_those_after_it() -> None:
    status, document = chain(
        {"backend": "echo", "prompt": "one {{two}}", "name": "first"},
        "<{{previous}}>",
        "{{steps.first.output}} {{previous}} {{previous}}",
    )
    assert told(document) == [
        ("ok", "one {{two}}"),
        ("ok", "<one {{two}}>"),
        ("ok", "one {{two}} <one {{two}}> <one {{two}}>"),
    ]
    assert (status, document["completed_steps"], document["failed_step"]) == (0, 3, 0)


def test_an_output_with_placeholders_in_it_stays_as_it_is(tmp_path: Path) -> None:
    said = "{{previous}} {{steps.a.output}} {{{previous}}} \\1 $& 漢字 \x1b[1m \u2028|\r\t"
    tool = {"command": [sys.executable, "-c", f"import sys; sys.stdout.write({said!r})"]}
    (tmp_path / "config.yaml").write_text(json.dumps({"backends": {"tool": tool}}))
    steps = [
        {"backend": "tool", "prompt": "x", "name": "a"},
        {"backend": "echo", "prompt": "1{{previous}}2{{steps.a.output}}3"},
    ]
    ended = clinvk(
        *("chain", "--json", "--config", "config.yaml"),
        stdin=json.dumps({"steps": steps}),
        cwd=tmp_path,
    )
    first, second = json.loads(ended.stdout)["results"]
    assert first["output"] == said
    assert second["output"] == f"1{said}2{said}3"


def test_a_megabyte_of_output_is_passed_on_whole() -> None:
    said = "größer {{other}}\n" * 50_000 + "end"
    _, document = chain(said, "{{previous}}", "{{previous}}!")
    assert [result["output"] == said for result in document["results"][:2]] == [True, True]
    assert document["results"][2]["output"] == said + "!"


def test_a_failed_step_stops_the_chain(tmp_path: Path) -> None:
    touch = {"command": ["sh", "-c", f"touch {shlex.quote(str(tmp_path / 'ran'))}; echo x"]}
    (tmp_path / "config.yaml").write_text(json.dumps({"backends": {"touch": touch}}))
    steps = [
        {"backend": "echo", "prompt": "fine"},
        {"backend": "echo", "prompt": "[fail no more]"},
        {"backend": "touch", "prompt": "{{previous}}"},
    ]
    ended = clinvk(
        *("chain", "--json", "--config", str(tmp_path / "config.yaml")),
        stdin=json.dumps({"steps": steps}),
    )
    document = json.loads(ended.stdout)
    assert told(document) == [("ok", "fine"), ("failed", None), ("canceled", None)]
    assert [result["exit_code"] for result in document["results"]] == [0, 1, -1]
    assert (ended.status, document["failed_step"], document["completed_steps"]) == (1, 2, 1)
    assert not (tmp_path / "ran").exists()


def test_a_chain_may_go_on_after_a_failure_and_warns() -> None:
    status, document = chain(
        {"backend": "echo", "prompt": "[fail]", "name": "a"},
        "x{{previous}}y",
        "{{steps.a.output}}",
        "last",
        stop_on_failure=False,
    )
    assert told(document) == [("failed", None), ("ok", "xy"), ("failed", None), ("ok", "last")]
    assert document["results"][1]["warnings"] == [
        "{{previous}}: step 1 ended as failed, its output is empty"
    ]
    assert document["results"][2]["error"] == "the prompt is blank without {{steps.a.output}}"
    assert (status, document["failed_step"], document["completed_steps"]) == (1, 1, 2)


@pytest.mark.parametrize("passed", [True, False])
def test_the_working_directory_is_passed_on_if_asked(tmp_path: Path, passed: bool) -> None:
    (tmp_path / "config.yaml").write_text("backends: {pwd: {command: [pwd]}}")
    (tmp_path / "src").mkdir()
    steps = [{"backend": "pwd", "prompt": "x", "workdir": str(tmp_path / "src")}]
    steps += [{"backend": "pwd", "prompt": "x"}]
    ended = clinvk(
        *("chain", "--json", "--config", "config.yaml"),
        stdin=json.dumps({"steps": steps, "pass_working_dir": passed}),
        cwd=tmp_path,
    )
    first, second = (Path(result["output"]) for result in json.loads(ended.stdout)["results"])
    assert first == tmp_path / "src"
    assert (second == first) is passed


def test_ctrl_c_in_the_middle_of_a_chain() -> None:
    steps = [{"backend": "echo", "prompt": prompt} for prompt in ("one", "[wait 600]", "three")]
    process = subprocess.Popen(
        [*harness.CLINVK, "chain"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"steps": steps}))
    process.stdin.close()
    while process.stdout.readline() != "one\n":
        pass
    harness.wait_until(
        lambda: any("echo_cli" in argument for argument in _arguments_below(process.pid)),
        "the second step to run",
    )
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.stdout.read(), process.stderr.read()  # type: ignore[union-attr]
    assert process.wait() == 130, stderr
    assert "\nStep 2: echo\n" in stdout
    assert "\nStep 3" not in stdout
    assert "Total: 1/3 steps completed, 2 canceled (" in stdout
    for stream in (process.stdout, process.stderr):
        stream.close()  # type: ignore[union-attr]


def _arguments_below(pid: int) -> list[str]:
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            found += process.cmdline()
        except psutil.Error:
            continue
    return found


PIPELINE = "clinvk chain --file plan-tests.yaml --json | jq -r '.results[-1].output' | "
PIPELINE += "clinvk parallel --lenient"
JQ = f"""#!{sys.executable}
import json, sys
assert sys.argv[1:] == ["-r", ".results[-1].output"]
print(json.load(sys.stdin)["results"][-1]["output"])
"""


def test_a_chain_writes_a_task_file_which_then_runs(tmp_path: Path) -> None:
    assert PIPELINE in (EXAMPLES / "plan-tests.yaml").read_text()
    programs = {"clinvk": f'#!/bin/sh\nexec {sys.executable} -m clinvk "$@"\n'}
    if shutil.which("jq") is None:
        programs["jq"] = JQ
    for name, script in programs.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    ended = clinvk(
        command=["sh", "-c", PIPELINE],
        cwd=EXAMPLES,
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    )
    assert ended.status == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "Running 3 tasks (max 3 parallel)..."
    assert sorted(lines[2:5]) == [
        "[1] Wrote tests/test_auth.py",
        "[2] Wrote tests/test_user.py",
        "[3] Wrote tests/test_api.py",
    ]
    assert lines[-1].startswith("Total: 3 tasks, 3 completed, 0 failed (")


def test_the_example_for_the_real_clis_is_in_order() -> None:
    ended = clinvk("chain", "-f", str(EXAMPLES / "review-and-fix.json"), "--dry-run")
    assert (ended.status, len(ended.stdout.splitlines())) == (0, 3)


def test_one_prompt_to_several_backends(tmp_path: Path) -> None:
    tools = {"upper": {"command": ["tr", "a-z", "A-Z"]}, "bad": {"command": ["false"]}}
    (tmp_path / "config.yaml").write_text(json.dumps({"backends": tools}))
    arguments = ("compare", "hello", "--config", "config.yaml", "--backends", "upper,bad,echo:x")
    for more in ((), ("--sequential",)):
        ended = clinvk(*arguments, "--json", "-q", *more, cwd=tmp_path)
        document = json.loads(ended.stdout)
        assert told(document) == [("ok", "HELLO"), ("failed", None), ("ok", "hello")]
        assert (ended.status, document["backends"]) == (1, ["upper", "bad", "echo:x"])


def test_answers_side_by_side_on_a_wide_terminal() -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*harness.CLINVK, "compare", "hello", "--backends", "echo:a,echo:b", "--side-by-side"],
        stdin=slave,
        stdout=slave,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "20"},
    )
    os.close(slave)
    screen = b""
    while True:
        try:
            screen += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    os.close(master)
    assert process.wait() == 0
    lines = screen.decode().splitlines()
    assert " hello" + " " * 74 + "│ hello" in lines
