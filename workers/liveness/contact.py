"""What a worker knows of its contact with Redis, and so until when its commands may go on."""

from __future__ import annotations

import redis

from clinvk.store.connection import serves_nobody
from clinvk.store.failure_detector import stop_deadline


class Contact:
    """Times are those of one clock, in seconds."""

    def __init__(self, now: float) -> None:
        self._heard_at = now
        self._refused_at: float | None = None
        self._is_lost = False

    def heard(self, asked_at: float) -> bool:
        """Note that Redis answered what was asked then; returns whether contact was lost before."""
        was_lost, self._is_lost = self._is_lost, False
        self._heard_at = asked_at
        return was_lost

    def failed(self, error: redis.RedisError, now: float) -> bool:
        """Note that Redis cannot be used; returns whether that is new."""
        was_lost, self._is_lost = self._is_lost, True
        if serves_nobody(error):
            self._refused_at = now
        return not was_lost

    def stop_deadline(self, *, connection_stands: bool) -> float:
        """Return when this worker's commands must be stopped, unless Redis answers before."""
        return stop_deadline(
            self._heard_at, is_connected=connection_stands, refused_at=self._refused_at
        )
