"""Chains as their users run them, beside those of tests/local."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import harness
from tests.harness import EXAMPLES, clinvk
from tests.local.commands.test_chain import chain, told

pytestmark = pytest.mark.usefixtures("temporary")


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


def test_one_prompt_to_several_backends_in_turn() -> None:
    backends = ("--backends", "echo:x,echo:y", "--sequential")
    ended = clinvk("compare", "hello", *backends, "--json", "-q")
    assert told(json.loads(ended.stdout)) == [("ok", "hello"), ("ok", "hello")]
