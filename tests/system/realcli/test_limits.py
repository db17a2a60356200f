"""Limits of the fake API, as results of clinvk tell of them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from tests.system.realcli import fakeapi, limits
from tests.system.realcli.test_end_to_end import BACKENDS, asked, clinvk, run, write
from tests.system.realcli.test_tool_calls import PERMISSIONS
from tests.system.realcli.toolcalls import prompt, shell

pytestmark = pytest.mark.timeout(300)

LIMITS = {"claude": "spend_limit", "codex": "plus", "gemini": "window"}
OPENS_IN_SECONDS = {"codex": limits.SOON, "gemini": 10_359}
MINUTE = 60


def test_a_limit_is_told_with_its_time_and_what_was_done_before_it(tmp_path: Path) -> None:
    calls = {name: (shell("touch made"),) if name != "gemini" else () for name in BACKENDS}
    tasks = [
        {
            "backend": name,
            "prompt": f"{prompt(name, *calls[name])} limit:{LIMITS[name]}",
            **PERMISSIONS[name],
        }
        for name in BACKENDS
    ]
    status, document = run(tmp_path, tasks)
    results = dict(zip(BACKENDS, document["results"], strict=True))
    assert {result["error_kind"] for result in results.values()} == {"usage_limit"}
    assert [results[name]["acted"] for name in BACKENDS] == [True, True, False]
    assert results["claude"]["retry_at"] == "2026-12-01T00:00:00.000Z"
    for name, seconds in OPENS_IN_SECONDS.items():
        retry_at, end_time = (
            datetime.fromisoformat(results[name][key]) for key in ("retry_at", "end_time")
        )
        # The CLI names the minute, and takes a while to end.
        assert seconds - 2 * MINUTE < (retry_at - end_time).total_seconds() <= seconds
    assert status == 1


WINDOW = {"per_window": 2, "window_seconds": 5, "from_refusal": True}
ALLOWED = {"claude": WINDOW, "codex": WINDOW | {"to_minute": True}, "gemini": WINDOW}
TASKS_EACH = 3


def test_a_batch_waits_for_each_window_and_is_done(tmp_path: Path) -> None:
    """One task of each CLI at a time, so each request after a refusal is a new start."""
    questions = [(name, f"{name}-{n}") for n in range(TASKS_EACH) for name in BACKENDS]
    tasks = [{"backend": name, "prompt": f"question:{question}"} for name, question in questions]
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"queues": {name: {"max_concurrency": 1} for name in BACKENDS}}))
    arguments = ("-f", write(tmp_path, "tasks", tasks), "--config", str(config))
    world = ("--allow", json.dumps(ALLOWED), "--quick-limits")
    status, document = clinvk(tmp_path, "parallel", *arguments, world=world)
    told = [(result["status"], result.get("output")) for result in document["results"]]
    assert told == [("ok", fakeapi.answer_to(question)) for _, question in questions]
    assert status == 0
    requests = [(fakeapi.backend_of(each["path"]), each) for each in asked(tmp_path)]
    for name in BACKENDS:
        of_cli = [request for backend, request in requests if backend == name]
        refused = [request["refused"] for request in of_cli]
        assert refused == ["", "", "usage_limit", ""]
        assert of_cli[3]["at"] >= of_cli[2]["opens_at"]
        results = [each for each in document["results"] if each["backend"] == name]
        assert [each.get("rejections", 0) for each in results] == [0, 0, 1]
        assert results[2]["waited_seconds"] > 0
