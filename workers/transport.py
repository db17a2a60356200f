"""Celery's two doors to Redis, each without a promise that clinvk does not need.

`Transport` keeps no copy of a message that a worker has taken. kombu's keeps one until it is
acknowledged, and delivers it again after a visibility timeout: for tasks of an hour that would be
a second run. Here the kernel's record says what was handed out, and the reaper publishes again
what nobody claimed. It also saves two round trips for each task, and a worker whose server is
out of memory can take messages all the same.

`Backend` counts the parts of chords. Where a part cannot be recorded the chord never completes,
and the reaper closes the run instead; raised, the error would take the slot with it.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import redis
from celery.backends.redis import RedisBackend
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import QoS as LocalQoS

logger = logging.getLogger(__name__)


ALIAS = "clinvk"
TRANSPORT_ALIASES[ALIAS] = f"{__name__}:Transport"
"""kombu lets the URL of a socket choose the transport, by such a name alone."""


def urls(broker_url: str) -> tuple[str, str]:
    """Translate any accepted form of a broker URL into Celery's, for the broker and the backend.

    Celery refuses `rediss://` that does not say whether to verify the server's certificate:
    it is verified, unless the URL says otherwise.
    """
    if broker_url.startswith("rediss://") and "ssl_cert_reqs=" not in broker_url:
        broker_url += ("&" if "?" in broker_url else "?") + "ssl_cert_reqs=required"
    path = re.sub(r"^((redis\+)?socket|unix):///", "socket:///", broker_url)
    broker = f"{ALIAS}+{path}" if path.startswith("socket:") else path
    return broker, f"{__name__}.Backend+{path}"


class QoS(kombu_redis.QoS):
    """What this process has taken and not acknowledged: known to itself alone."""

    append = LocalQoS.append
    ack = LocalQoS.ack
    reject = LocalQoS.reject

    def restore_unacked(self, *_args: object) -> None:
        """Give back what was taken and not begun."""
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


class Backend(RedisBackend):  # type: ignore[misc]
    """Celery's Redis backend; a part of a chord that it cannot record is left out."""

    def on_chord_part_return(self, request: Any, *args: Any, **options: Any) -> None:
        """Count a member's return."""
        try:
            super().on_chord_part_return(request, *args, **options)
        except redis.RedisError as error:
            logger.warning("chord %s: a part could not be counted: %s", request.group, error)
