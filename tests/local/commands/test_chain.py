"""Chains and comparisons as their users run them: real processes, a real local fleet."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
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


def test_the_example_for_the_real_clis_is_in_order() -> None:
    ended = clinvk("chain", "-f", str(EXAMPLES / "review-and-fix.json"), "--dry-run")
    assert (ended.status, len(ended.stdout.splitlines())) == (0, 3)


def test_one_prompt_to_several_backends(tmp_path: Path) -> None:
    tools = {"upper": {"command": ["tr", "a-z", "A-Z"]}, "bad": {"command": ["false"]}}
    (tmp_path / "config.yaml").write_text(json.dumps({"backends": tools}))
    arguments = ("compare", "hello", "--config", "config.yaml", "--backends", "upper,bad,echo:x")
    ended = clinvk(*arguments, "--json", "-q", cwd=tmp_path)
    document = json.loads(ended.stdout)
    assert told(document) == [("ok", "HELLO"), ("failed", None), ("ok", "hello")]
    assert (ended.status, document["backends"]) == (1, ["upper", "bad", "echo:x"])
