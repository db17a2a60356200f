"""kombu's transport for Redis, which keeps no copy of a message that a worker has taken.

kombu's own keeps one until the message is acknowledged, and delivers it again after a visibility
timeout: a task of an hour would run twice. Here the store's record says what was published, and the
reaper publishes again what nobody claimed. This also saves two round trips for each task, and a
worker can take messages while Redis is out of memory.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import QoS as LocalQoS

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


class Channel(kombu_redis.Channel):
    """A channel whose messages are gone from Redis once they are taken."""

    QoS = QoS


class Transport(kombu_redis.Transport):
    """kombu's Redis transport, over such channels."""

    Channel = Channel
