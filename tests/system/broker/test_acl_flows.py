"""What the users that `clinvk acl` makes do all day, by real commands and a real worker."""

from __future__ import annotations

import json

import pytest
import redis

from clinvk.core.worker_config import BROKER_URL
from clinvk.store.keys import key
from tests import harness
from tests.system.broker.users import QUEUE, TASKS, Server


@pytest.mark.timeout(300)  # some twenty commands, one after the other
@pytest.mark.usefixtures("acl_worker")
def test_a_submitter_does_all_that_a_user_does(acl_server: Server) -> None:
    def ok(*arguments: str, stdin: str | None = None, status: int = 0) -> str:
        done = acl_server.clinvk("submitter", *arguments, stdin=stdin)
        assert (done.status, done.stderr) == (status, ""), arguments
        return done.stdout

    assert json.loads(ok("parallel", "--json", "-q", stdin=TASKS))["completed"] == 2
    steps = '{"steps": [{"backend": "echo", "prompt": "a"}, {"backend": "echo", "prompt": "b"}]}'
    ok("chain", "-q", stdin=steps)
    ok("compare", "a", "--backends", "echo,echo")
    assert ok("parallel", "-q", "--run-key", "k", stdin=TASKS) == ok(
        "parallel", "-q", "--run-key", "k", stdin=TASKS
    )
    assert "echo" in ok("workers")
    ok("queues", "pause", "echo")
    ok("queues", "set", "echo", "--max-concurrency", "1", "--rate", "100/s")
    assert json.loads(ok("queues", "--json"))[0]["paused"] is True
    run = ok("parallel", "--detach", stdin=TASKS).strip()
    assert run in ok("runs")
    ok("cancel", run)
    ok("wait", run, status=1)
    ok("queues", "pause", "echo", "--until", "30m")
    assert json.loads(ok("queues", "--json"))[0]["state"] == "paused"
    ok("queues", "resume", "echo")
    assert json.loads(ok("queues", "--json"))[0]["state"] == "open"
    run = ok("parallel", "--detach", stdin=TASKS).strip()
    assert "2 completed" in ok("attach", run)
    assert "2 of 2 tasks have ended" in ok("results", run)
    ok("status", run)


@pytest.mark.usefixtures("acl_worker")
def test_a_submitter_cancels_no_run_of_another(acl_server: Server) -> None:
    acl_server.clinvk("submitter", "queues", "pause", "echo")
    run = acl_server.clinvk("submitter", "parallel", "--detach", stdin=TASKS).stdout.strip()
    denied = acl_server.clinvk("bob", "cancel", run)
    assert denied.status == 4
    assert f"run {run} is not one of bob's, who may cancel only those" in denied.stderr
    assert acl_server.clinvk("submitter", "cancel", run).status == 0


@pytest.mark.timeout(300)  # some twenty commands, one after the other
@pytest.mark.usefixtures("acl_worker")
def test_a_monitor_sees_all_and_changes_nothing(acl_server: Server) -> None:
    run = acl_server.clinvk("submitter", "parallel", "--detach", stdin=TASKS).stdout.strip()
    acl_server.clinvk("submitter", "wait", run)
    for looks in (("workers",), ("queues",), ("runs",), ("status", run), ("results", run)):
        assert acl_server.clinvk("monitor", *looks).status == 0, looks
    assert "pong" in acl_server.celery("monitor", "inspect", "ping").stdout
    for question in ("stats", "conf"):
        answered = acl_server.celery("monitor", "inspect", question)
        assert answered.status == 0, answered.stderr
        assert "worker-password" not in answered.stdout
    with redis.Redis.from_url(acl_server.url("monitor")) as client:
        script = "redis.call('type', KEYS[1]); return redis.call('zcard', KEYS[1])"
        assert client.eval(script, 1, key("leases", QUEUE)) == 0  # as KEDA does
    assert acl_server.denials() == []
    denied = acl_server.clinvk("monitor", "parallel", "--detach", stdin=TASKS)
    assert denied.status == 4
    assert "monitor" in denied.stderr
    assert denied.stderr.count("\n") == 1
    acl_server.admin.acl_log_reset()


def test_a_submitter_is_no_worker(acl_server: Server) -> None:
    refused = acl_server.clinvk("submitter", "worker", "--queues", "echo")
    assert refused.status == 4
    assert "the broker's user submitter may not do what a worker does" in refused.stderr
    acl_server.admin.acl_log_reset()


def test_a_wrong_password_is_refused_and_not_shown(acl_server: Server) -> None:
    url = acl_server.url("submitter").replace("submitter-password", "wrong-password")
    refused = harness.clinvk("runs", env={BROKER_URL: url})
    assert (refused.status, refused.stdout) == (4, "")
    assert "wrong-password" not in refused.stderr
    assert refused.stderr.count("\n") == 1
    acl_server.admin.acl_log_reset()
