"""What a message must look like before kombu and Celery get it.

Whoever reaches the broker can put anything into a queue. Celery checks little of it: a missing
header, a number in the place of a text or JSON in a thousand brackets would end its event loop, and
the worker with it. So a message has the shape that clinvk and Celery publish, or it is dropped.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from clinvk.broker.message import AGGREGATE, EXECUTE, task_id

BROADCAST = re.compile(r"^celeryev\.|\.celery\.pidbox$")
"""Queues of what all of the fleet hears: Celery's remote control, and events of workers."""
DECODE_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What reading garbage raises, in json, base64 and the types that kombu adds to JSON."""
COMMAND = re.compile(r"(?<!\.reply)\.celery\.pidbox$")
"""Those of commands alone, without their replies."""
LONGEST_TEXT = 1 << 10
"""Characters of an id, a queue or another name."""
LARGEST_BODY = 1 << 24
"""Characters of a body. Those of tasks have some hundred; a revocation names many of them."""
LARGEST_NUMBER = 1 << 53
_RUN = re.compile(r"[\w.-]{1,200}")

Rule = Callable[[Any], bool]


class BadMessageError(ValueError):
    """A message that is dropped; the text says why, and quotes nothing of it."""


def check(message: Any, queue: str) -> None:
    """Check a message that came from a queue, in the envelope of kombu's Redis transport.

    Raises:
        BadMessageError: it is none that clinvk or Celery publishes.
    """
    body = _checked_body(message)
    if BROADCAST.search(queue):
        _check_fields(message["headers"], _BROADCAST_HEADERS, "headers.")
        if not isinstance(body, dict | list):
            raise BadMessageError("its body is neither an object nor a list")
        if COMMAND.search(queue):
            _check_command(body)
    else:
        _check_fields(message["headers"], _TASK_HEADERS, "headers.")
        _check_task(message["headers"], body)


def _checked_body(message: Any) -> Any:
    """Check the envelope; returns the decoded body."""
    if not isinstance(message, dict):
        raise BadMessageError("it is not a JSON object")
    _check_fields(message, _ENVELOPE, "")
    _check_fields(message["properties"], _PROPERTIES, "properties.")
    _check_fields(message["properties"]["delivery_info"], _DELIVERY_INFO, "delivery_info.")
    text = message["body"]
    try:
        if message["properties"].get("body_encoding") == "base64":
            text = base64.b64decode(text, validate=True)
        return json.loads(text)
    except DECODE_ERRORS as error:
        raise BadMessageError("its body cannot be decoded") from error


def _check_fields(fields: Mapping[str, Any], rules: Mapping[str, Rule], where: str) -> None:
    for name, rule in rules.items():
        if not rule(fields.get(name)):
            raise BadMessageError(f"{where}{name} is missing or not what it should be")


def _check_command(body: Any) -> None:
    """Check a command of Celery's remote control."""
    if not isinstance(body, dict):
        raise BadMessageError("its body is not an object")
    _check_fields(body, _COMMAND, "")
    if body.get("reply_to") is not None:
        _check_fields(body["reply_to"], _DELIVERY_INFO, "reply_to.")


def _check_task(headers: Mapping[str, Any], body: Any) -> None:
    """Check the call of one of the two tasks that a worker has."""
    if not isinstance(body, list) or [type(part) for part in body] != [list, dict, dict]:
        raise BadMessageError("its body is not a list of arguments, options and callbacks")
    arguments, options, callbacks = body
    if options or not _are_arguments(headers["task"], arguments):
        raise BadMessageError("its arguments are not those of the task")
    if headers["task"] == EXECUTE and headers["id"] != task_id(arguments[0], arguments[1]):
        raise BadMessageError("its id is not the task's")
    if any(callbacks.get(name) for name in ("callbacks", "errbacks", "chain")):
        raise BadMessageError("it calls something else when it ends")
    chord = callbacks.get("chord")
    if chord is not None and not _closes_run(chord, arguments[0]):
        raise BadMessageError("its chord does not close its run")


def _are_arguments(task: str, arguments: list[Any]) -> bool:
    match arguments:
        case [str() as run, index, dispatch] if task == EXECUTE:
            return bool(_RUN.fullmatch(run)) and _is_count(index) and _is_count(dispatch)
        case [str() as run] if task == AGGREGATE:
            return bool(_RUN.fullmatch(run))
        case _:
            return False


def _closes_run(chord: Any, run: str) -> bool:
    """Whether a chord's body is the call that closes this run."""
    match chord:
        case {"task": task, "args": [closed], "kwargs": {}, "options": dict() as options}:
            return task == AGGREGATE and closed == run and _is_text(options.get("queue"))
        case _:
            return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < LARGEST_NUMBER


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_none(value: Any) -> bool:
    return value is None


def _or_none(rule: Rule) -> Rule:
    return lambda value: value is None or rule(value)


def _one_of(*values: object) -> Rule:
    return lambda value: any(value == each and type(value) is type(each) for each in values)


_ENVELOPE: Mapping[str, Rule] = {
    "headers": _is_object,
    "properties": _is_object,
    "content-type": _one_of("application/json"),
    "content-encoding": _one_of("utf-8"),
    "body": lambda value: isinstance(value, str) and 0 < len(value) <= LARGEST_BODY,
}
_PROPERTIES: Mapping[str, Rule] = {
    "delivery_tag": _is_text,
    "delivery_info": _is_object,
    "body_encoding": _one_of(None, "base64"),
    "correlation_id": _or_none(_is_text),
    "reply_to": _or_none(_is_text),
    "priority": _or_none(_is_count),
}
_DELIVERY_INFO: Mapping[str, Rule] = {"exchange": _is_text, "routing_key": _is_text}
_BROADCAST_HEADERS: Mapping[str, Rule] = {
    "compression": _is_none,
    "clock": _or_none(_is_count),
    "hostname": _or_none(_is_text),
}
_COMMAND: Mapping[str, Rule] = {
    "method": _is_text,
    "arguments": _or_none(_is_object),
    "destination": _or_none(
        lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value)
    ),
    "pattern": _or_none(_is_text),
    "matcher": _or_none(_is_text),
    "reply_to": _or_none(_is_object),
    "ticket": _or_none(_is_text),
}
_TASK_HEADERS: Mapping[str, Rule] = {
    "compression": _is_none,
    "task": _one_of(EXECUTE, AGGREGATE),
    "id": _is_text,
    "root_id": _or_none(_is_text),
    "parent_id": _or_none(_is_text),
    "group": _or_none(_is_text),
    "group_index": _or_none(_is_count),
    "shadow": _or_none(_is_text),
    "argsrepr": _or_none(_is_text),
    "kwargsrepr": _or_none(_is_text),
    "origin": _or_none(_is_text),
    "retries": _or_none(_is_count),
    "replaced_task_nesting": _or_none(_is_count),
    "ignore_result": _or_none(lambda value: isinstance(value, bool)),
    # The store says when a task starts, and the worker how long it may take.
    "eta": _is_none,
    "expires": _is_none,
    "timelimit": _one_of(None, [None, None]),
    "stamped_headers": _one_of(None, []),
    "stamps": _one_of(None, {}),
}
"""Headers that Celery reads. Those that a later version adds are left to it."""
