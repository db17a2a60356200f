"""Local runs whose provider has limits, beside the one of tests/local."""

from __future__ import annotations

from tests.local.test_limits import Run, env, run, script
from tests.scripted_claude import BURST, SESSION, Script

__all__ = ["env", "run", "script"]


def test_a_limit_beyond_what_it_may_wait_is_the_end(run: Run, script: Script) -> None:
    script.limits(7200)
    result = run("--max-wait", "15m", status=1)
    assert result["error_kind"] == "usage_limit"
    assert "longer than max_wait (15m) allows: You've hit your session limit" in result["error"]


def test_what_has_acted_goes_on_in_its_session(run: Run, script: Script) -> None:
    script.says(BURST.format(1), error="rate_limit", acts=True)
    script.says("fine")
    assert run()["output"] == "fine"
    assert f"--resume {SESSION}" in script.said("argv")[1]
