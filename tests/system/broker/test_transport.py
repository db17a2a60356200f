"""Garbage in the queues of a real worker: it is dropped, and the worker goes on."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from clinvk.broker.app import create_app
from clinvk.broker.message import template
from tests import harness
from tests.worker_processes import CELERY, OURS, Workers, workers

__all__ = ["workers"]

pytestmark = pytest.mark.usefixtures("temporary")

QUEUE = "clinvk.echo"
RUN = "20260102-030405-abcdef01"
SLOTS = 6


def genuine(broker_url: str) -> dict[str, Any]:
    """What the store publishes for the first dispatch of a task."""
    text = template(create_app(broker_url), RUN)
    for name, value in {
        "INDEX": "0",
        "DISPATCH": "1",
        "LEASE": f"{RUN}:0:1",
        "QUEUE": QUEUE,
    }.items():
        text = text.replace(f"@{name}@", value)
    message: dict[str, Any] = json.loads(text)
    return message


def without_or_with_another_type(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The message without each of its fields, and with each of another type."""
    for path in ((), ("headers",), ("properties",), ("properties", "delivery_info")):
        fields = message
        for name in path:
            fields = fields[name]
        for name in fields:
            values: list[Any] = [None, 7, [], {}, "x", True, [[1]], {"x": {}}]
            for value in values:
                changed = copy.deepcopy(message)
                inner = changed
                for step in path:
                    inner = inner[step]
                if value is None:
                    del inner[name]
                else:
                    inner[name] = value
                yield changed


def garbage(message: dict[str, Any]) -> Iterator[bytes]:
    """Many ways not to be a message."""
    yield from (b"", b"garbage", b"null", b"[]", b"{}", b"7", b'"x"', b"\xff\x00", b"NaN")
    yield b"[" * 200_000
    yield b'{"a":' * 200_000
    yield b"9" * 5000
    yield b'{"__type__": [], "__value__": 1}'
    yield b'{"__type__": "decimal", "__value__": "x"}'
    yield b'{"__type__": "uuid", "__value__": 3}'
    bodies: list[list[Any]] = [
        [],
        [[]],
        [[RUN, 0, 1], {}, {}, {}],
        [["x"], {}, {}],
        [[RUN, "0", 1], {}, {}],
    ]
    for body in bodies:
        yield json.dumps({**message, "body": json.dumps(body)}).encode()
    yield json.dumps({**message, "body": "[" * 200_000}).encode()
    yield json.dumps({**message, "content-type": "application/x-python-serialize"}).encode()
    for changed in without_or_with_another_type(message):
        yield json.dumps(changed).encode()


def broadcasts() -> Iterator[bytes]:
    """Many ways not to be a command of remote control."""
    envelope = {
        "body": json.dumps({"method": "ping", "arguments": {}}),
        "headers": {"clock": 1},
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {
            "delivery_tag": "x",
            "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
        },
    }
    yield from (b"garbage", b"null", b"{}", b"[" * 200_000)
    yield b'{"__type__": "decimal", "__value__": "x"}'
    for body in ("", "7", "null", "{}", "[" * 200_000, '{"method": []}', '{"destination": 7}'):
        yield json.dumps({**envelope, "body": body}).encode()
    for changed in without_or_with_another_type(envelope):
        yield json.dumps(changed).encode()


@pytest.mark.parametrize(
    "argv",
    [OURS, [*CELERY, "worker", "-Q", QUEUE, "-c", str(SLOTS)]],
    ids=["workers", "celery"],
)
def test_a_worker_drops_what_is_no_message_and_serves_on(
    workers: Workers, redis_client: redis.Redis, broker_url: str, tmp_path: Path, argv: list[str]
) -> None:
    process = workers.start(argv)
    message = genuine(broker_url)
    for text in garbage(message):
        redis_client.lpush(QUEUE, text)
    for text in broadcasts():
        redis_client.publish("/0.celery.pidbox", text)
        redis_client.publish("/0.celeryev/worker.heartbeat", text)
    harness.wait_until(lambda: not redis_client.exists(QUEUE), "all of it to be taken")
    tasks = json.dumps([{"backend": "echo", "prompt": f"t{n}"} for n in range(20)])
    ended = workers.clinvk("parallel", "--max-parallel", "20", "--json", "-q", stdin=tasks)
    assert ended.status == 0, ended.stderr
    assert process.poll() is None
    log = (tmp_path / "workers.log").read_text()
    assert f"a message from {QUEUE} was dropped: it is not a JSON object" in log
    assert "a message from a queue was dropped: it is not JSON" in log
    assert len(workers.pinged()) == 1
    assert "Traceback" not in log
