"""Answers by a schema, from the real CLIs: handed to those that take one, and asked for again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.system.realcli import fakeapi
from tests.system.realcli.replies import prompt
from tests.system.realcli.test_end_to_end import BACKENDS, asked, run
from tests.system.realcli.toolcalls import tool

pytestmark = pytest.mark.timeout(300)

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
PLAIN = "I would say that it is three."
RIGHT = 'Of course: {"n": 3}'
REPLIES: dict[str, tuple[Any, ...]] = {
    # It reminds the model once of the tool, and then exits with 0.
    "claude": (PLAIN, PLAIN, tool("StructuredOutput", n=3)),
    "codex": (PLAIN, RIGHT),
    "gemini": (PLAIN, RIGHT),
}


def test_an_answer_in_plain_text_is_asked_for_again(tmp_path: Path) -> None:
    kinds = list(zip(BACKENDS, ("full", "read-only", "full"), strict=True))
    tasks = [
        {
            "backend": backend,
            "prompt": prompt(f"{backend}-{mode}", *REPLIES[backend]),
            "schema": SCHEMA,
            "sandbox_mode": mode,
        }
        for backend, mode in kinds
    ]
    wrong = [tool("StructuredOutput", n="three")] * 9  # it gives up after five
    tasks.append({"backend": "claude", "prompt": prompt("wrong", *wrong), "schema": SCHEMA})
    status, document = run(tmp_path, tasks)
    *results, failed = document["results"]
    assert (status, failed["error_kind"]) == (1, "invalid_answer")
    assert failed["error"] == "Failed to provide valid structured output after 5 attempts"
    assert [result.get("error") for result in results] == [None] * len(kinds)
    for result in results:
        assert (result["data"], result["repairs"]) == ({"n": 3}, 1)
    used = {r["backend"]: r["usage"]["input_tokens"] for r in results}
    assert used == {"claude": 30, "codex": 20, "gemini": 20}, "what all rounds used, each once"
    for backend in BACKENDS:
        of_it = [r["prompt"] for r in asked(tmp_path) if fakeapi.backend_of(r["path"]) == backend]
        assert sum("has no JSON in it" in text for text in of_it) >= 1
        told = any("Answer with JSON alone" in text for text in of_it)
        assert told == (backend == "gemini"), "the others take it as an argument"
    assert not [*(tmp_path / "home/.clinvk/state/sessions").glob("*/*")]
