"""Which messages a worker takes; a real worker gets others in tests/local/broker."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given

from clinvk.broker import message_checks
from clinvk.broker.app import create_app
from clinvk.broker.message import AGGREGATE, EXECUTE, template
from clinvk.broker.message_checks import BadMessageError
from tests import forged

RUN, QUEUE = "20260102-030405-abcdef01", "clinvk.my-tool.2"
PIDBOX, REPLIES = "clinvk@host.celery.pidbox", "0f-1.reply.celery.pidbox"


def published() -> dict[str, Any]:
    text = template(create_app("redis://localhost"), RUN)
    for name, value in {"INDEX": "0", "DISPATCH": "1", "LEASE": f"{RUN}:0:1"}.items():
        text = text.replace(f"@{name}@", value)
    message: dict[str, Any] = json.loads(text.replace("@QUEUE@", QUEUE))
    return message


def of_body(body: object, **headers: object) -> dict[str, Any]:
    message = published()
    text = base64.b64encode(json.dumps(body).encode()).decode()
    return {
        **message,
        "body": text,
        "headers": message["headers"] | headers,
        "properties": message["properties"] | {"body_encoding": "base64"},
    }


def test_what_the_store_and_celery_publish_is_taken() -> None:
    message_checks.check(published(), QUEUE)
    message_checks.check(
        of_body([[RUN], {}, {"callbacks": None, "chord": None}], task=AGGREGATE, id="any"), QUEUE
    )
    command: dict[str, Any] = {
        "method": "ping",
        "arguments": {},
        "destination": None,
        "ticket": "t",
    }
    message_checks.check(of_body(command), PIDBOX)
    message_checks.check(of_body({"clinvk@host": {"ok": "pong"}}), REPLIES)
    message_checks.check(of_body([{"type": "worker-online"}]), "celeryev.0f")


def test_headers_of_a_later_celery_do_not_matter() -> None:
    message = published()
    message["headers"]["invented_later"] = [1]
    message_checks.check(message, QUEUE)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (None, "it is not a JSON object"),
        ([], "it is not a JSON object"),
        ({}, "headers is missing"),
        ({**published(), "body": ""}, "body is missing"),
        ({**published(), "body": "["}, "its body cannot be decoded"),
        ({**published(), "content-type": "application/x-python-serialize"}, "content-type is"),
        (of_body([[RUN, 0, 1], {}, {}], compression="zlib"), "headers.compression is"),
        (of_body([[RUN, 0, 1], {}, {}], task="celery.chord"), "headers.task is"),
        (of_body([[RUN, 0, 1], {}, {}], eta="2099-01-01T00:00:00"), "headers.eta is"),
        (of_body([[RUN, 0, 1], {}, {}], timelimit=[1, 1]), "headers.timelimit is"),
        (of_body([[RUN, 0, 1], {}, {}], group_index=True), "headers.group_index is"),
        (of_body([[RUN, 0, 1], {}, {}], group_index=-1), "headers.group_index is"),
        (of_body([[RUN, 1, 1], {}, {}]), "its id is not the task's"),
        (of_body([[RUN, 0, "1"], {}, {}]), "its arguments are not those of the task"),
        (of_body([[RUN, 0, True], {}, {}]), "its arguments are not those of the task"),
        (of_body([["a:b", 0, 1], {}, {}]), "its arguments are not those of the task"),
        (of_body([[RUN, 0, 1], {"index": 1}, {}]), "its arguments are not those of the task"),
        (of_body([[RUN], {}, {}]), "its arguments are not those of the task"),
        (of_body([[RUN, 0, 1], {}]), "its body is not a list of"),
        (of_body([[RUN, 0, 1], {}, {"callbacks": [{"task": EXECUTE}]}]), "it calls something else"),
        (
            of_body([[RUN, 0, 1], {}, {"chord": {"task": EXECUTE, "args": [RUN]}}]),
            "its chord does not close its run",
        ),
    ],
)
def test_anything_else_is_refused(message: object, why: str) -> None:
    with pytest.raises(BadMessageError, match=f"^{why}"):
        message_checks.check(message, QUEUE)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (7, "its body is neither an object nor a list"),
        ([], "its body is not an object"),
        ({}, "method is missing"),
        ({"method": "ping", "destination": "x"}, "destination is"),
        ({"method": "ping", "reply_to": "x"}, "reply_to is"),
        ({"method": "ping", "reply_to": {"exchange": 1}}, "reply_to.exchange is"),
    ],
)
def test_a_command_that_celery_could_not_read_is_refused(body: object, why: str) -> None:
    with pytest.raises(BadMessageError, match=f"^{why}"):
        message_checks.check(of_body(body), PIDBOX)


@given(forged.messages())
def test_any_message_is_refused_or_can_be_taken(message: Any) -> None:
    forged.check_message(message)
