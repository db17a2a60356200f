"""The users that `clinvk acl` makes have the rights of their work, and none beyond it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import redis

from clinvk.broker.acl import Role
from clinvk.store.connection import check_version
from clinvk.store.keys import KEYS, key
from clinvk.store.used_commands import of_python, of_scripts
from tests.system.broker.users import QUEUE, RUN, Server

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
    acl_server: Server, user: str, command: Sequence[str | int]
) -> None:
    assert not acl_server.allows(user, *command)


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
def test_only_workers_write_records(acl_server: Server, user: str, name: str) -> None:
    """Of every key that the store has, also of those that come later."""
    there = KEYS[name].format(*(["submitter:x", QUEUE] if "submission" in name else [RUN, QUEUE]))
    if name in SUBMITTERS_OWN and user == "submitter":
        others = KEYS[name].format("bob:x", QUEUE)
        if "{}" in KEYS[name]:
            assert not any(acl_server.allows(user, *command) for command in writes(others))
        return
    assert not [command for command in writes(there) if acl_server.allows(user, *command)]


@pytest.mark.parametrize("user", ["submitter", "monitor"])
def test_only_workers_publish_tasks(acl_server: Server, user: str) -> None:
    for name in (QUEUE, "_kombu.binding.clinvk.echo", "clinvk@h.celery.pidbox"):
        assert not [command for command in writes(name) if acl_server.allows(user, *command)]


def test_a_submitter_gives_no_orders_and_hears_none(acl_server: Server) -> None:
    for channel in ("/0.celery.pidbox", "/0.celeryev/task.x", "x"):
        assert not acl_server.allows("submitter", "PUBLISH", channel, "x")
        assert not acl_server.allows("submitter", "SUBSCRIBE", channel)
        assert not acl_server.allows("submitter", "PSUBSCRIBE", channel)


def test_a_monitor_forges_no_events_and_hears_no_orders(acl_server: Server) -> None:
    assert acl_server.allows("monitor", "PUBLISH", "/0.celery.pidbox", "x")
    assert acl_server.allows("monitor", "PSUBSCRIBE", "/0.celeryev/*")
    assert not acl_server.allows("monitor", "PUBLISH", "/0.celeryev/task-succeeded", "x")
    assert not acl_server.allows("monitor", "PSUBSCRIBE", "/0.celery.pidbox")


def test_a_script_has_no_more_rights_than_its_caller(acl_server: Server) -> None:
    with redis.Redis.from_url(acl_server.url("submitter")) as client:
        for call in (
            f"redis.call('HSET', '{key('results', RUN)}', 0, '{{}}')",
            f"redis.call('XADD', '{key('signals')}', '*', 'canceled', '{RUN}')",
            f"redis.call('LPUSH', '{QUEUE}', 'x')",
            "redis.call('CLIENT', 'KILL', 'ID', '1')",
        ):
            with pytest.raises(redis.ResponseError):
                client.eval(f"return {call}", 0)
    acl_server.admin.acl_log_reset()


def test_all_that_the_store_sends_is_a_command(acl_server: Server) -> None:
    """A word in capitals that is none stands in the wrong list of `used_commands`."""
    sent = sorted(command.split(" ")[0] for command in of_python() | of_scripts())
    known = acl_server.admin.execute_command("COMMAND", "INFO", *sent)
    assert [name for name, found in zip(sent, known, strict=False) if found is None] == []


def test_the_server_is_one_that_is_promised(acl_server: Server) -> None:
    check_version(acl_server.admin.info())
