"""kombu's transport for Redis, which keeps no copy of a message that a worker has taken.

kombu's own keeps one until the message is acknowledged, and delivers it again after a visibility
timeout: a task of an hour would run twice. Here the store's record says what was published, and the
reaper publishes again what nobody claimed. This also saves two round trips for each task, and a
worker can take messages while Redis is out of memory.

Anyone who reaches the broker can put anything into a queue. A message that cannot be decoded, or is
none that clinvk or Celery publishes (`clinvk.broker.message_checks`), is dropped with a line in the
log, and the worker goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import QoS as LocalQoS
from kombu.utils import json as kombu_json
from kombu.utils.encoding import bytes_to_str

from clinvk.broker import message_checks
from clinvk.broker.message_checks import DECODE_ERRORS, BadMessageError
from clinvk.core.error_log import ErrorLog

ALIAS = "clinvk"
TRANSPORT_ALIASES[ALIAS] = f"{__name__}:Transport"
"""kombu lets the URL of a socket choose the transport, by such a name alone."""


class QoS(kombu_redis.QoS):
    """What this process has taken and not acknowledged, known to itself alone."""

    append = LocalQoS.append
    ack = LocalQoS.ack
    reject = LocalQoS.reject

    def restore_unacked(self, *_args: object) -> None:
        """Put back what was taken and not begun."""
        local: Any = LocalQoS
        local.restore_unacked(self)

    def restore_visible(self, *_args: object, **_options: object) -> None:
        """Do nothing: no message is kept for a second delivery."""


_errors = ErrorLog(logging.getLogger(__name__))


def _decode(text: bytes | str) -> Any:
    """Decode JSON as kombu does, with the types that it adds."""
    kombus: Any = kombu_json
    to_text: Any = bytes_to_str
    return kombus.loads(to_text(text))


def _dropped(queue: str, why: str) -> None:
    _errors.warn(f"a message from {queue} was dropped", why)


class Channel(kombu_redis.Channel):
    """A channel whose messages are gone from Redis once they are taken."""

    QoS = QoS

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], None], *args: Any, **options: Any
    ) -> None:
        """Consume from a queue. A message that `callback` cannot take counts as taken."""

        def take(message: Any) -> None:
            try:
                callback(message)
            except DECODE_ERRORS as error:
                _dropped(queue, f"{type(error).__name__}: {error}")
                if not no_ack and not message.acknowledged:
                    message.reject()  # or it would have a slot for ever

        kombus: Any = super()
        kombus.basic_consume(queue, no_ack, take, *args, **options)

    def _brpop_read(self, **options: Any) -> Any:
        kombus: Any = super()
        try:
            return kombus._brpop_read(**options)
        except DECODE_ERRORS:  # delivering it raises none of them, see below
            _dropped("a queue", "it is not JSON")
            return True

    def _handle_message(self, client: Any, response: Any) -> Any:
        """Return what came of a subscription, a broadcast that is not JSON without its data."""
        kombus: Any = super()
        payload = kombus._handle_message(client, response)
        if isinstance(payload["data"], bytes | str):
            try:
                _decode(payload["data"])
            except DECODE_ERRORS:
                _dropped("a broadcast", "it is not JSON")
                return {**payload, "data": None}
        return payload


class Transport(kombu_redis.Transport):
    """kombu's Redis transport, over such channels."""

    Channel = Channel

    def receive(self, text: bytes, queue: str) -> None:
        """Deliver a message that was taken from its queue by other means."""
        try:
            message = _decode(text)
        except DECODE_ERRORS:
            _dropped(queue, "it is not JSON")
        else:
            self._deliver(message, queue)

    def _deliver(self, message: Any, queue: str) -> None:
        try:
            message_checks.check(message, queue)
        except BadMessageError as error:
            _dropped(queue, str(error))
        else:
            kombus: Any = super()
            kombus._deliver(message, queue)
