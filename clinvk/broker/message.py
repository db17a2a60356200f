"""The Celery message of a task, made once per run and filled in by the store.

Admission and publishing are one atomic step, in the store's scripts: a task cannot be dispatched
without its message, whoever dies when, and no Python process spends time on it. So the message is
written here as text with placeholders, by Celery's own encoder of its protocol (version 2), in the
envelope of kombu's Redis transport; `tests/local/broker/test_message.py` holds
it to what Celery itself would publish.

    @INDEX@ @DISPATCH@  numbers: the task in its run, and which dispatch of it this is
    @LEASE@             run:index:dispatch, unique for each message
    @QUEUE@             the Celery queue of the task's backend
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery import Celery

MessageOf = Callable[[str], str]
"""Gives the message of any task of a run."""
ANY_RUN = "@RUN@"
"""Stands for the run in a message that was made before its run is known."""
EXECUTE = "clinvk.execute"
AGGREGATE = "clinvk.aggregate"


def task_id(run: str, index: int | str) -> str:
    """Return the Celery id of a task: one for all its dispatches."""
    return f"{run}-{index}"


def template(app: Celery, run: str) -> str:
    """Return the message of any task of this run, a member of its chord."""
    name = task_id(run, "@INDEX@")
    message = app.amqp.as_task_v2(
        name,
        EXECUTE,
        (run, "@INDEX@", "@DISPATCH@"),
        group_id=run,
        group_index="@INDEX@",
        chord=_body(app, run),
        ignore_result=True,
        argsrepr=f"('{run}', @INDEX@, @DISPATCH@)",
        kwargsrepr="{}",
    )
    envelope = {
        "body": _numbers(json.dumps(message.body)),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": message.headers,
        "properties": {
            **message.properties,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "@QUEUE@"},
            "delivery_tag": "@LEASE@",
            "priority": 0,
        },
    }
    return _numbers(json.dumps(envelope))


def maker(app: Celery) -> MessageOf:
    """Return what makes messages with an application."""
    return partial(template, app)


def of_run(any_message: str, run: str) -> str:
    """Return the message of a run, of one for `ANY_RUN`."""
    return any_message.replace(ANY_RUN, run)


def _body(app: Any, run: str) -> Any:
    # On the queue of the member that completes the chord: somebody serves that one.
    return app.signature(AGGREGATE, (run,), immutable=True, queue="@QUEUE@")


def _numbers(text: str) -> str:
    """Take the quotes off the placeholders that stand for numbers."""
    return text.replace('"@INDEX@"', "@INDEX@").replace('"@DISPATCH@"', "@DISPATCH@")
