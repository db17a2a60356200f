"""Celery's two doors to Redis, each without a promise that clinvk does not need.

`Transport` keeps no copy of a message that a worker has taken. kombu's keeps one until it is
acknowledged, and delivers it again after a visibility timeout: for tasks of an hour that would be
a second run. Here the store's record says what was handed out, and the reaper publishes again
what nobody claimed. It also saves two round trips for each task, and a worker whose server is
out of memory can take messages all the same.

`ResultBackend` completes chords by the store's count. Celery's would keep each member's return,
count them, and fail the chord for a member that was revoked; the run's record has the results, and
its `remaining` is counted in the very script that records them. So a member that returns costs
nothing here, and the one that was last (`workers/tasks.py` returns that) has the chord's body
called. Where that fails, or its worker dies before it, the reaper closes the run.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import kombu.exceptions
import redis
from celery import maybe_signature
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
    return broker, f"{__name__}.ResultBackend+{path}"


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


class ResultBackend(RedisBackend):  # type: ignore[misc]
    """Celery's Redis backend, whose chords are counted by the store."""

    def on_chord_part_return(
        self, request: Any, _state: str, result: object, **_options: object
    ) -> None:
        """Call the chord's body once its last member has returned."""
        if request.chord is None or result is not True:
            return
        try:
            maybe_signature(request.chord, app=self.app).delay()
        except (redis.RedisError, kombu.exceptions.OperationalError) as error:
            logger.warning("the body of chord %s could not be called: %s", request.group, error)
