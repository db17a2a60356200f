"""Celery's result backend for Redis, whose chords are counted by the store.

Celery's own would keep what each member of a chord returns, count the members, and fail the chord
for a member that was revoked. Here the run's record has the results, and its `remaining` is counted
in the script that records them. So a member that returns costs nothing, and the one that was the
last (`workers/tasks.py` returns whether it was) has the chord's body called. Where that fails, or
its worker dies before it, the reaper closes the run.
"""

from __future__ import annotations

import logging
from typing import Any

import kombu.exceptions
import redis
from celery import maybe_signature
from celery.backends.redis import RedisBackend

from clinvk.core.broker_url import mask_password

logger = logging.getLogger(__name__)


class ResultBackend(RedisBackend):  # type: ignore[misc]
    """Stores nothing, and completes chords by what their members return."""

    def as_uri(self, include_password: bool = False) -> str:
        """Return the URL of its server, for Celery's banner without its secrets."""
        return str(self.url) if include_password else mask_password(str(self.url))

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
