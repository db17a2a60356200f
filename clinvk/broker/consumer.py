"""Celery's consumer, which does two things without a turn of Celery's event loop.

Each turn of the loop looks after every socket and timer, and takes the interpreter from the threads
that run tasks: a worker of very short tasks would do little else.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Any

from celery.worker import consumer

from clinvk.core.spec import queue_of

OWN_QUEUE = queue_of("@")
"""What the name of a worker's own queue begins with."""

logger = logging.getLogger(__name__)


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """A consumer that acknowledges at once, and takes messages from the threads of tasks as well.

    A slot becomes free as its task's result is recorded, and the same script can take the message
    that the slot runs next (`Store.finish`). Handing that to Celery in the task's own thread
    saves a busy worker a round trip and three turns of the loop for each task.
    """

    def call_soon_ack(self, acknowledge: Callable[..., object], *args: object) -> None:
        """Acknowledge, or reject, a message at once: that sends nothing (`Transport`)."""
        acknowledge(*args)

    def serves(self) -> list[str]:
        """Return the queues that this worker takes from just now: its own, then others at random.

        There are none while the worker shuts down, and none in the loop's own thread (the pool
        `solo`), where the next task would begin inside the one that just ends.
        """
        if threading.current_thread() is threading.main_thread():
            return []
        channel = self._channel()
        queues = list(channel.active_queues) if channel is not None else []
        random.shuffle(queues)  # no queue comes first for ever, but what nobody else may take
        return sorted(queues, key=lambda queue: not queue.startswith(OWN_QUEUE))

    def take(self, queue: str, message: bytes) -> None:
        """Receive a message. Where that fails, the reaper publishes it again."""
        channel = self._channel()
        try:
            channel.connection.receive(message, queue)
        except Exception:  # it is reconnecting, or has just stopped
            logger.exception("a message from %s could not be received", queue)

    def _channel(self) -> Any:
        return self.task_consumer.channel if self.task_consumer is not None else None
