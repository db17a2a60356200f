"""`clinvk parallel` through the real CLIs, which talk to the fake model API and to nobody else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.system.realcli import fakeapi
from tests.system.realcli.sealed import REQUESTS

BACKENDS = ("claude", "codex", "gemini")
"""Those that `--all-backends` means."""
EVERY = (*BACKENDS, "opencode")
GEMINI = "gemini-3.8-flash"
SEALED = [sys.executable, "-m", "tests.system.realcli.sealed"]
ROOT = harness.ROOT

pytestmark = pytest.mark.timeout(300)


def run(tmp_path: Path, tasks: list[dict[str, Any]], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a batch in a sealed world."""
    return clinvk(tmp_path, "parallel", "-f", write(tmp_path, "tasks", tasks), *arguments)


def write(tmp_path: Path, key: str, tasks: list[dict[str, Any]]) -> str:
    """Write a task file, or one of steps; returns its path."""
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    for task in tasks:
        if task["backend"] == "gemini":  # without a model it asks another one first
            task["model"] = GEMINI
    file = tmp_path / f"{key}.json"
    file.write_text(json.dumps({key: [{"workdir": str(work), **task} for task in tasks]}))
    return str(file)


def clinvk(
    tmp_path: Path, *arguments: str, world: Sequence[str] = ()
) -> tuple[int, dict[str, Any]]:
    """Run a command in a sealed world with these options; nothing of it may be left running."""
    home = tmp_path / "home"
    command = [sys.executable, "-m", "clinvk", *arguments, "--json", "-q"]
    done = subprocess.run(
        [*SEALED, *world, str(home), *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    harness.wait_until(
        lambda: not harness.of_directory(str(home / "tmp")), "all processes of the batch to end"
    )
    return done.returncode, json.loads(done.stdout)


def asked(tmp_path: Path) -> list[dict[str, Any]]:
    """What the fake API was asked in a batch."""
    lines = (tmp_path / "home" / REQUESTS).read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_each_answer_is_that_of_its_own_prompt(tmp_path: Path) -> None:
    questions = [(backend, f"{backend}-{n}") for n in range(2) for backend in BACKENDS]
    questions.append(("opencode", "opencode"))
    tasks = [
        {"backend": backend, "prompt": f"--help\nquestion:{question}"}
        for backend, question in questions
    ]
    status, document = run(tmp_path, tasks, "--max-parallel", "4")
    assert status == 0
    for (backend, question), result in zip(questions, document["results"], strict=True):
        assert result["output"] == fakeapi.answer_to(question)
        assert (result["backend"], result["exit_code"]) == (backend, 0)
        assert result["usage"] == {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        assert result["session_id"]
        assert ("model" in result) == (backend not in {"codex", "opencode"})  # they do not say
    prompts = [task["prompt"] for task in tasks]
    assert sorted(request["prompt"] for request in asked(tmp_path)) == sorted(prompts)


AT_ONCE = {"max_wait": 0, "retries": 0}
"""What makes a task fail at its first error."""
FAILURES = (
    ("claude", "quota", "quota"),
    ("claude", "429", "rate_limited"),
    ("codex", "401", "auth"),
    ("codex", "refusal", "refused"),
    ("gemini", "500", "overloaded"),
    ("gemini", "429", "rate_limited"),
    ("opencode", "429", "rate_limited"),
)
"""What a CLI is answered, and its kind. The others are in the recordings, of the same CLIs."""


def test_failures_are_told_for_what_they_are(tmp_path: Path) -> None:
    tasks = [
        {"backend": backend, "prompt": f"question:x scenario:{scenario}", **AT_ONCE}
        for backend, scenario, _ in FAILURES
    ]
    status, document = run(tmp_path, tasks)
    assert status == 1
    assert document["failed"] == len(FAILURES)
    told = [(r["backend"], r["error_kind"], r["exit_code"] != 0) for r in document["results"]]
    assert told == [(backend, kind, True) for backend, _, kind in FAILURES]


def test_a_stream_that_is_cut_off(tmp_path: Path) -> None:
    tasks = [{"backend": name, "prompt": "question:x scenario:cut", **AT_ONCE} for name in EVERY]
    status, document = run(tmp_path, tasks)
    assert status == 1
    told = [(result["backend"], result["status"]) for result in document["results"]]
    assert told == [(name, "ok" if name == "claude" else "failed") for name in EVERY]


def test_a_model_that_does_not_answer_is_stopped_and_nothing_is_left(tmp_path: Path) -> None:
    tasks: list[dict[str, Any]] = [
        {"backend": name, "prompt": "question:x scenario:slow", "timeout_seconds": 6}
        for name in EVERY
    ]
    status, document = run(tmp_path, tasks)
    assert status == 1
    told = [(result["status"], result["exit_code"]) for result in document["results"]]
    assert told == [("timeout", -1)] * len(EVERY)


def test_a_megabyte_of_prompt_arrives(tmp_path: Path) -> None:
    text = "word " * 200_000 + "question:big"
    tasks = [{"backend": name, "prompt": text} for name in BACKENDS]
    status, document = run(tmp_path, tasks)
    told = [(result.get("error"), result.get("output")) for result in document["results"]]
    assert told == [(None, fakeapi.answer_to("big"))] * len(BACKENDS)
    assert [request["prompt"] == text for request in asked(tmp_path)] == [True] * len(BACKENDS)
    assert status == 0


def test_an_answer_longer_than_a_pipe_arrives_whole(tmp_path: Path) -> None:
    tasks = [{"backend": name, "prompt": "question:x scenario:long"} for name in BACKENDS]
    status, document = run(tmp_path, tasks)
    assert [result.get("error") for result in document["results"]] == [None] * 3
    whole = fakeapi.long_answer_to("x")
    assert [result["output"] == whole for result in document["results"]] == [True] * 3
    assert status == 0


def test_a_model_that_says_nothing_has_failed(tmp_path: Path) -> None:
    tasks = [{"backend": name, "prompt": "question:x scenario:empty"} for name in BACKENDS]
    status, document = run(tmp_path, tasks)
    told = [(result["status"], result["exit_code"] != 0) for result in document["results"]]
    assert told == [("failed", True)] * 3
    assert status == 1


def test_a_limit_of_turns_is_kept_and_told(tmp_path: Path) -> None:
    task = {"backend": "claude", "prompt": "question:x scenario:tool", "max_turns": 2}
    status, document = run(tmp_path, [task])
    assert document["results"][0]["error"].startswith("stopped at max_turns")
    assert len(asked(tmp_path)) == 2
    assert status == 1


def test_modes_and_options_are_accepted_by_the_clis(tmp_path: Path) -> None:
    tasks = [
        {
            "backend": backend,
            "prompt": "question:modes",
            "approval_mode": approval,
            "sandbox_mode": "read-only",
            "system_prompt": 'Be "brief"\nand kind.',
            "max_turns": 4,
            "max_tokens": 4096,
            "allowed_tools": ["Read"],
        }
        for backend in BACKENDS
        for approval in ("auto", "always")
    ]
    status, document = run(tmp_path, tasks)
    assert [result.get("error") for result in document["results"]] == [None] * len(tasks)
    assert status == 0
