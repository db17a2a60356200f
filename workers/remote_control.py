"""What a worker does of that which Celery's remote control asks: it answers questions.

Whoever may ask may also order, because both travel the same channel of the server: to stop a
worker, or a task that somebody else pays for, to give it another pool or other queues. Nothing of
clinvk's own needs that: its cancellations go through the store. So orders are refused, unless this
machine's configuration says `worker.remote_control: true`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker import control

QUESTIONS = frozenset(
    {
        *("ping", "stats", "conf", "report", "clock", "registered", "active_queues", "query_task"),
        *("active", "reserved", "scheduled", "revoked"),
        *("dump_active", "dump_reserved", "dump_schedule", "dump_revoked", "dump_tasks"),
        # They turn on what Flower shows, and off again.
        *("enable_events", "disable_events", "heartbeat"),
    }
)
"""What stays. Celery counts memory dumps and the like as questions; they write files."""

logger = logging.getLogger(__name__)


def answer_questions_only() -> None:
    """Refuse, from now on, whatever is no question. What a starting worker asks is answered."""
    commands = control.Panel.data
    for name in commands.keys() - QUESTIONS:
        commands[name] = partial(_refuse, name)
    commands["hello"] = _greet(control.hello)


def _refuse(name: str, state: Any, **_arguments: Any) -> dict[str, str]:
    logger.warning("refused the order %s", name)
    return {
        "error": f"{name} is off on {state.hostname}: set worker.remote_control: true in its "
        "configuration"
    }


def _greet(hello: Callable[..., Any]) -> Callable[..., Any]:
    """Answer a worker that starts, and take no list of tasks to revoke from it."""

    def greet(state: Any, from_node: str, **_revoked: Any) -> Any:
        return hello(state, from_node)

    return greet
