"""A retry that is canceled."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests import harness
from tests.local.commands.test_retry import Runs, runs

__all__ = ["runs"]

pytestmark = pytest.mark.usefixtures("temporary")


def test_a_retry_that_is_canceled_costs_no_result_that_it_did_not_replace(runs: Runs) -> None:
    (runs.directory / "go").touch()
    run = runs.submit("wait", "two")
    (runs.directory / "go").unlink()
    (runs.directory / "waits").unlink()
    with subprocess.Popen(
        [*harness.CLINVK, "retry", run, "--all", "--quiet"],
        cwd=runs.directory,
        env={**os.environ, "CLINVK_CONFIG": str(runs.directory / "config.yaml")},
    ) as process:
        harness.wait_until((runs.directory / "waits").exists, "the first task to begin again")
        process.send_signal(signal.SIGTERM)
        assert process.wait(harness.TIMEOUT_SECONDS) == 128 + signal.SIGTERM
    assert [result["status"] for result in runs.results(run)] == ["canceled", "ok"]


def test_a_run_in_which_all_is_ok_is_not_retried(runs: Runs) -> None:
    run = runs.submit("one")
    assert "has no task that is not ok" in runs.run("retry", run).stderr
