"""`clinvk logs --follow` where the broker or the run comes and goes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import IO, Any

from clinvk.store.store import Store
from tests import harness
from tests.local.commands.test_logs import RUN, STEPS, finish, following, running_in, submit
from tests.server import running_server

__all__ = ["following"]


def test_a_broker_that_goes_away_is_waited_for(tmp_path: Path, following: Any) -> None:
    """The server stops and comes back with its data, as with an append-only file."""
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with running_server(harness.server_program(), tmp_path, *options) as url:
        store = Store.connect(url)
        submit(store, RUN)
        store.record_steps(RUN, STEPS[:1])
        follower = following(RUN, "--broker", url)
        follower.line()
        store.close()
    errors: IO[str] = follower.process.stderr
    assert "cannot use the broker" in errors.readline()
    with running_server(harness.server_program(), tmp_path, *options) as url:
        store = Store.connect(url)
        store.record_steps(RUN, STEPS[1:2])
        assert follower.line().endswith("Bash pytest -q\n")
        for index in range(3):
            finish(store, index)
        status, _, err = follower.rest()
        assert (status, err) == (0, "clinvk: the broker can be reached again\n")
        store.close()


def test_a_local_run_is_found_while_it_goes_on(
    temporary: Path, tmp_path: Path, following: Any
) -> None:
    tasks = tmp_path / "tasks.json"
    tasks.write_text('{"backend": "echo", "prompt": "[wait 60] x"}')
    local = subprocess.Popen(
        [*harness.CLINVK, "parallel", "-q", "-f", str(tasks)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    (found,) = harness.wait_until(lambda: running_in(temporary), "the local run")
    store = Store.connect(found.broker_url)
    store.record_steps(found.run, STEPS[:1])
    follower = following(found.run)
    assert follower.line().endswith("[1] I read the tests  first\n")
    store.close()
    status = json.loads(harness.clinvk("status", found.run, "--json").stdout)
    assert (status["run_id"], status["state"], status["completed"]) == (found.run, "running", 0)
    assert harness.clinvk("results", found.run).status == 0
    canceled = harness.clinvk("cancel", found.run)
    assert canceled.stdout == f"{found.run} is canceled\n"
    assert local.wait(harness.TIMEOUT_SECONDS) == 1
    local.communicate()
    code, _, err = follower.rest()
    assert (code, err) in [(0, ""), (0, f"clinvk: the local run {found.run} has ended\n")]
