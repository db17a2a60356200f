"""`clinvk chain` and `clinvk compare` through the real CLIs, against the fake model API."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.realcli import fakeapi
from tests.system.realcli.test_end_to_end import BACKENDS, GEMINI, asked, clinvk, write

pytestmark = pytest.mark.timeout(300)


def test_each_cli_reads_what_the_one_before_it_said(tmp_path: Path) -> None:
    steps = [
        {"backend": "claude", "prompt": "question:one", "name": "first"},
        {"backend": "codex", "prompt": "question:two about:\n{{previous}}"},
        {"backend": "gemini", "prompt": "question:three\n{{previous}}\n{{steps.first.output}}"},
        {"backend": "claude", "prompt": "{{previous}} question:four"},
    ]
    status, document = clinvk(tmp_path, "chain", "-f", write(tmp_path, "steps", steps))
    said = [fakeapi.answer_to(question) for question in ("one", "two", "three", "four")]
    assert [result.get("output") for result in document["results"]] == said
    assert [request["prompt"] for request in asked(tmp_path)] == [
        "question:one",
        f"question:two about:\n{said[0]}",
        f"question:three\n{said[1]}\n{said[0]}",
        f"{said[2]} question:four",
    ]
    assert (status, document["completed_steps"], document["failed_step"]) == (0, 4, 0)


def test_a_long_answer_is_the_next_ones_prompt_whole(tmp_path: Path) -> None:
    order = [*BACKENDS, "claude"]
    steps = [{"backend": name, "prompt": "scenario:long question:x"} for name in order[:1]]
    steps += [
        {"backend": name, "prompt": "{{previous}} scenario:long question:x"} for name in order[1:]
    ]
    status, document = clinvk(tmp_path, "chain", "-f", write(tmp_path, "steps", steps))
    assert [result.get("error") for result in document["results"]] == [None] * 4
    long = fakeapi.long_answer_to("x")
    prompts = [request["prompt"] for request in asked(tmp_path)]
    assert [prompt == f"{long} scenario:long question:x" for prompt in prompts[1:]] == [True] * 3
    assert status == 0


def test_a_failure_of_the_model_stops_the_chain(tmp_path: Path) -> None:
    steps = [
        {"backend": "gemini", "prompt": "question:one"},
        {"backend": "claude", "prompt": "{{previous}} scenario:429"},
        {"backend": "codex", "prompt": "{{previous}}"},
    ]
    file = write(tmp_path, "steps", steps)
    status, document = clinvk(tmp_path, "chain", "-f", file, "--max-wait", "0")
    told = [(r["status"], r.get("error_kind")) for r in document["results"]]
    assert told == [("ok", None), ("failed", "rate_limited"), ("canceled", "canceled")]
    assert (status, document["failed_step"], len(asked(tmp_path))) == (1, 2, 2)


def test_one_prompt_to_all_that_are_installed(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"backends: {{gemini: {{model: {GEMINI}}}}}\n")  # else it asks which to take
    arguments = ("compare", "question:x", "--all-backends", "--config", str(config))
    status, document = clinvk(tmp_path, *arguments)
    assert document["backends"] == list(BACKENDS)
    assert [result.get("output") for result in document["results"]] == [fakeapi.answer_to("x")] * 3
    assert status == 0


def test_each_backend_gets_its_model(tmp_path: Path) -> None:
    backends = f"gemini:{GEMINI},claude:claude-sonnet-4-6,claude:no-such-model"
    prompt = tmp_path / "prompt.md"
    prompt.write_text("question:x")
    status, document = clinvk(
        tmp_path, "compare", "--file", str(prompt), "--backends", backends, "--sequential"
    )
    assert document["backends"] == backends.split(",")
    models = [request["model"] for request in asked(tmp_path)]
    assert models == [GEMINI, "claude-sonnet-4-6", "no-such-model"]
    assert document["prompt"] == "question:x"
    assert status == 0
