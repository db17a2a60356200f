"""The users that `clinvk acl` makes: each does its work, and nothing beyond it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from clinvk.broker import acl
from clinvk.broker.acl import Role, User
from clinvk.core.worker_config import BROKER_URL
from clinvk.store.connection import check_version
from clinvk.store.keys import KEYS, key
from clinvk.store.used_commands import of_python, of_scripts
from tests import harness

RUN = "20260102-030405-abcdef01"
QUEUE = "clinvk.echo"
TASKS = '{"backend": "echo", "prompt": "one"}\n{"backend": "echo", "prompt": "two"}\n'
CELERY = [*harness.PYTHON, "-m", "celery", "-A", "workers.app"]


@dataclass(frozen=True)
class Server:
    """A server with a user for each role, and an administrator."""

    port: int
    admin: Any

    def url(self, user: str) -> str:
        return f"redis://{user}:{user}-password@127.0.0.1:{self.port}/0"

    def clinvk(self, user: str, *arguments: str, stdin: str | None = None) -> harness.Completed:
        return harness.clinvk(*arguments, stdin=stdin, env={BROKER_URL: self.url(user)})

    def celery(self, user: str, *arguments: str) -> harness.Completed:
        return harness.clinvk(*arguments, command=CELERY, env={BROKER_URL: self.url(user)})

    def allows(self, user: str, *command: str | int) -> bool:
        return bool(self.admin.execute_command("ACL", "DRYRUN", user, *command) == b"OK")

    def denials(self) -> list[str]:
        """What was refused to anybody, from the server's own log."""
        return [f"{entry['username']}: {entry['object']}" for entry in self.admin.acl_log()]


def users(server_version: tuple[int, ...]) -> list[str]:
    named = [(role.value, role) for role in Role] + [("bob", Role.SUBMITTER)]
    return [
        acl.line(User(name, role, acl.hashed(f"{name}-password")), 0, server_version)
        for name, role in named
    ]


def version_of_server() -> tuple[int, ...]:
    said = subprocess.run([harness.server_program(), "--version"], capture_output=True, text=True)
    return (7, 0) if "server v=7.0" in said.stdout else (8,)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("acl")
    lines = ["user default off", "user admin on >admin ~* &* +@all", *users(version_of_server())]
    (directory / "users.acl").write_text("\n".join(lines) + "\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *(harness.server_program(), "--port", str(port), "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
            *("--aclfile", str(directory / "users.acl")),
        ],
        cwd=directory,
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(port=port, username="admin", password="admin") as admin:
            harness.wait_until(
                lambda: harness.answers(admin) or process.poll() is not None, "the server"
            )
            assert process.poll() is None, "it refused its users"
            yield Server(port, admin)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def worker(server: Server, tmp_path: Path) -> Iterator[None]:
    """A worker of this server, as the user for workers; nobody is refused anything by the end."""
    server.admin.flushall()
    server.admin.acl_log_reset()
    log = tmp_path / "worker.log"
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            [*harness.CLINVK, "worker", "--queues", "echo", "--concurrency", "2"],
            env={**os.environ, BROKER_URL: server.url("worker")},
            stdout=stream,
            stderr=stream,
        ) as process,
    ):
        try:
            harness.wait_until(
                lambda: server.admin.zcard(key("workers")) or process.poll() is not None,
                "the worker to be announced",
            )
            yield
        finally:
            process.terminate()
    assert process.returncode == 0, log.read_text()
    assert "NOPERM" not in log.read_text()
    assert server.denials() == []
    assert harness.keys_without_lifetime(server.admin) == []


@pytest.mark.timeout(300)  # some twenty commands, one after the other
@pytest.mark.usefixtures("worker")
def test_a_submitter_does_all_that_a_user_does(server: Server) -> None:
    def ok(*arguments: str, stdin: str | None = None, status: int = 0) -> str:
        done = server.clinvk("submitter", *arguments, stdin=stdin)
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


@pytest.mark.usefixtures("worker")
def test_a_submitter_cancels_no_run_of_another(server: Server) -> None:
    server.clinvk("submitter", "queues", "pause", "echo")
    run = server.clinvk("submitter", "parallel", "--detach", stdin=TASKS).stdout.strip()
    denied = server.clinvk("bob", "cancel", run)
    assert denied.status == 4
    assert f"run {run} is not one of bob's, who may cancel only those" in denied.stderr
    assert server.clinvk("submitter", "cancel", run).status == 0


@pytest.mark.timeout(300)  # some twenty commands, one after the other
@pytest.mark.usefixtures("worker")
def test_a_monitor_sees_all_and_changes_nothing(server: Server) -> None:
    run = server.clinvk("submitter", "parallel", "--detach", stdin=TASKS).stdout.strip()
    server.clinvk("submitter", "wait", run)
    for looks in (("workers",), ("queues",), ("runs",), ("status", run), ("results", run)):
        assert server.clinvk("monitor", *looks).status == 0, looks
    assert "pong" in server.celery("monitor", "inspect", "ping").stdout
    for question in ("stats", "conf"):
        answered = server.celery("monitor", "inspect", question)
        assert answered.status == 0, answered.stderr
        assert "worker-password" not in answered.stdout
    with redis.Redis.from_url(server.url("monitor")) as client:
        script = "redis.call('type', KEYS[1]); return redis.call('zcard', KEYS[1])"
        assert client.eval(script, 1, key("leases", QUEUE)) == 0  # as KEDA does
    assert server.denials() == []
    denied = server.clinvk("monitor", "parallel", "--detach", stdin=TASKS)
    assert denied.status == 4
    assert "monitor" in denied.stderr
    assert denied.stderr.count("\n") == 1
    server.admin.acl_log_reset()


def test_a_submitter_is_no_worker(server: Server) -> None:
    refused = server.clinvk("submitter", "worker", "--queues", "echo")
    assert refused.status == 4
    assert "the broker's user submitter may not do what a worker does" in refused.stderr
    server.admin.acl_log_reset()


def test_a_wrong_password_is_refused_and_not_shown(server: Server) -> None:
    url = server.url("submitter").replace("submitter-password", "wrong-password")
    refused = harness.clinvk("runs", env={BROKER_URL: url})
    assert (refused.status, refused.stdout) == (4, "")
    assert "wrong-password" not in refused.stderr
    assert refused.stderr.count("\n") == 1
    server.admin.acl_log_reset()


DANGEROUS: Sequence[Sequence[str | int]] = [
    ("CLIENT", "KILL", "ID", 1),
    ("CLIENT", "PAUSE", 1000),
    ("CLIENT", "UNBLOCK", 1),
    ("FUNCTION", "LOAD", "x"),
    ("FUNCTION", "FLUSH"),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory", 1),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "x"),
    ("ACL", "GETUSER", "admin"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("SCAN", 0),
    ("RANDOMKEY",),
    ("MONITOR",),
    ("DEBUG", "SLEEP", 1),
    ("SHUTDOWN",),
    ("SAVE",),
    ("REPLICAOF", "a", 1),
    ("MIGRATE", "h", 1, "k", 0, 1),
    ("SWAPDB", 0, 1),
    ("MODULE", "LIST"),
    ("SLOWLOG", "GET"),
    ("GET", "another"),
    ("SET", "another", "x"),
    ("PUBLISH", "another", "x"),
]


@pytest.mark.parametrize("user", [*Role])
@pytest.mark.parametrize("command", DANGEROUS, ids=lambda command: " ".join(map(str, command)))
def test_nobody_touches_the_server_or_what_is_not_clinvks(
    server: Server, user: str, command: Sequence[str | int]
) -> None:
    assert not server.allows(user, *command)


def writes(name: str) -> Sequence[Sequence[str | int]]:
    return [
        ("HSET", name, "f", "v"),
        ("HDEL", name, "f"),
        ("SET", name, "x"),
        ("DEL", name),
        ("UNLINK", name),
        ("RPUSH", name, "x"),
        ("LPUSH", name, "x"),
        ("ZADD", name, 1, "x"),
        ("ZREM", name, "x"),
        ("SADD", name, "x"),
        ("SREM", name, "x"),
        ("XADD", name, "*", "f", "v"),
        ("XDEL", name, "1-1"),
        ("PEXPIRE", name, 1),
        ("RENAME", name, "clinvk:submission:submitter:x"),
        ("RENAME", "clinvk:submission:submitter:x", name),
    ]


SUBMITTERS_OWN = {
    *("submission", "submission_specs", "submission_max_attempts", "submission_pending"),
    *("requests", "submitters"),
}


@pytest.mark.parametrize("name", [*KEYS])
@pytest.mark.parametrize("user", ["submitter", "monitor"])
def test_only_workers_write_records(server: Server, user: str, name: str) -> None:
    """Of every key that the store has, also of those that come later."""
    there = KEYS[name].format(*(["submitter:x", QUEUE] if "submission" in name else [RUN, QUEUE]))
    if name in SUBMITTERS_OWN and user == "submitter":
        others = KEYS[name].format("bob:x", QUEUE)
        if "{}" in KEYS[name]:
            assert not any(server.allows(user, *command) for command in writes(others))
        return
    assert not [command for command in writes(there) if server.allows(user, *command)]


@pytest.mark.parametrize("user", ["submitter", "monitor"])
def test_only_workers_publish_tasks(server: Server, user: str) -> None:
    for name in (QUEUE, "_kombu.binding.clinvk.echo", "clinvk@h.celery.pidbox"):
        assert not [command for command in writes(name) if server.allows(user, *command)]


def test_a_submitter_gives_no_orders_and_hears_none(server: Server) -> None:
    for channel in ("/0.celery.pidbox", "/0.celeryev/task.x", "x"):
        assert not server.allows("submitter", "PUBLISH", channel, "x")
        assert not server.allows("submitter", "SUBSCRIBE", channel)
        assert not server.allows("submitter", "PSUBSCRIBE", channel)


def test_a_monitor_forges_no_events_and_hears_no_orders(server: Server) -> None:
    assert server.allows("monitor", "PUBLISH", "/0.celery.pidbox", "x")
    assert server.allows("monitor", "PSUBSCRIBE", "/0.celeryev/*")
    assert not server.allows("monitor", "PUBLISH", "/0.celeryev/task-succeeded", "x")
    assert not server.allows("monitor", "PSUBSCRIBE", "/0.celery.pidbox")


def test_a_script_has_no_more_rights_than_its_caller(server: Server) -> None:
    with redis.Redis.from_url(server.url("submitter")) as client:
        for call in (
            f"redis.call('HSET', '{key('results', RUN)}', 0, '{{}}')",
            f"redis.call('XADD', '{key('signals')}', '*', 'canceled', '{RUN}')",
            f"redis.call('LPUSH', '{QUEUE}', 'x')",
            "redis.call('CLIENT', 'KILL', 'ID', '1')",
        ):
            with pytest.raises(redis.ResponseError):
                client.eval(f"return {call}", 0)
    server.admin.acl_log_reset()


def test_all_that_the_store_sends_is_a_command(server: Server) -> None:
    """A word in capitals that is none stands in the wrong list of `used_commands`."""
    sent = sorted(command.split(" ")[0] for command in of_python() | of_scripts())
    known = server.admin.execute_command("COMMAND", "INFO", *sent)
    assert [name for name, found in zip(sent, known, strict=False) if found is None] == []


def test_the_server_is_one_that_is_promised(server: Server) -> None:
    check_version(server.admin.info())
