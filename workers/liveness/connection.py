"""An idle connection to Redis, which stays open for as long as its worker lives.

The server sees it close when the worker process dies, however that happens; the worker sees it
close when the server dies or drops it. While neither sees it closed, both wait for longer
(`clinvk/store/failure_detector.py`). So no timeout may ever close it.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

import redis

from clinvk.store.connection import connection_beside, connection_options, redis_url
from clinvk.store.failure_detector import ANSWER_SECONDS


class LivenessConnection:
    """A worker's liveness connection. Not safe for use from several threads."""

    def __init__(self, broker_url: str) -> None:
        self._pool: Any = redis.ConnectionPool.from_url(
            redis_url(broker_url), **connection_options(ANSWER_SECONDS)
        )
        self._connection: Any = None

    def open(self) -> str:
        """Connect anew; returns "<run id of the server>:<client id>".

        Raises:
            redis.RedisError: the server cannot be reached.
        """
        self.close()
        connection = connection_beside(self._pool)
        connection.connect()
        connection.send_command("INFO", "server")
        about = connection.read_response()
        connection.send_command("CLIENT", "ID")
        client = connection.read_response()
        self._connection = connection
        text = about.decode() if isinstance(about, bytes) else about
        run_id = re.search(r"^run_id:(\w+)", text, re.MULTILINE)
        return f"{run_id[1] if run_id else ''}:{client}"

    @property
    def stands(self) -> bool:
        """Whether it is open, as far as this side can see."""
        if self._connection is None:
            return False
        try:
            self._connection.can_read(timeout=0)
        except (redis.RedisError, OSError):
            self.close()
            return False
        return True

    def close(self) -> None:
        """Close it, when the worker runs nothing any more."""
        if self._connection is not None:
            with contextlib.suppress(redis.RedisError, OSError):
                self._connection.disconnect()
            self._connection = None
