"""Limits of the fake API, as results of clinvk tell of them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from tests.system.realcli import limits
from tests.system.realcli.test_end_to_end import BACKENDS, run
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
