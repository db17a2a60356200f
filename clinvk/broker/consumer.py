"""Celery's consumer, less what a worker of very short tasks has no time for.

Each turn of Celery's event loop looks after every socket and timer, and takes the interpreter from
the threads that run tasks. Two things here need no turn of it.
"""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable
from typing import Any

from celery.worker import consumer

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
        """Return the queues to take from just now, in no order.

        None as the worker ends, and none in the loop's own thread (the pool `solo`), where the
        next task would begin inside the one that just ends.
        """
        if threading.current_thread() is threading.main_thread():
            return []
        channel = self._channel()
        queues = list(channel.active_queues) if channel is not None else []
        random.shuffle(queues)  # so that none waits for another's end
        return queues

    def take(self, queue: str, message: bytes) -> None:
        """Receive a message; where that cannot be, the reaper will publish it again."""
        channel = self._channel()
        try:
            channel.connection._deliver(json.loads(message), queue)
        except Exception:  # it is reconnecting, or has just stopped
            logger.exception("a message from %s came to nothing", queue)

    def _channel(self) -> Any:
        return self.task_consumer.channel if self.task_consumer is not None else None
