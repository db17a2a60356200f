"""A worker of local mode, which is forked from the supervisor and cleans up if that is killed."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import threading
from collections.abc import Sequence
from typing import Any

import redis

from clinvk.store.connection import redis_url
from workers import context, handover, worker_process
from workers.__main__ import parser

OTHERS_SECONDS = 12.0
"""How long to wait for other workers to end what they run, and to record it."""


def run(arguments: Sequence[str], directory: str, life_fd: int, others: tuple[int, int]) -> int:
    """Run a worker until it ends, or until the supervisor does: then `life_fd` is at its end.

    `others` are the ends of a pipe that the workers share: it closes with the last of them.
    """

    def watch() -> None:
        try:
            connection = _connect()
            os.read(life_fd, 1)
            _take_down(directory, connection, others)
        finally:
            os._exit(1)

    threading.Thread(target=watch, name="clinvk-supervisor", daemon=True).start()
    return worker_process.run(parser().parse_args(arguments))


def _connect() -> Any:
    """Connect to the server now: its socket may be removed before the connection is needed."""
    broker_url = handover.broker_url()
    assert broker_url is not None
    connection = redis.Redis.from_url(
        redis_url(broker_url), single_connection_client=True, retry=None
    )
    with contextlib.suppress(redis.RedisError):
        connection.ping()
    return connection


def _take_down(directory: str, connection: Any, others: tuple[int, int]) -> None:
    """End what this worker runs, and with the last worker the server; remove the directory."""
    if context.is_set_up():
        context.current().renewer.close()
    read_fd, write_fd = others
    os.close(write_fd)
    select.select([read_fd], [], [], OTHERS_SECONDS)  # they may have results to record
    with contextlib.suppress(redis.RedisError):
        connection.shutdown(nosave=True)
    shutil.rmtree(directory, ignore_errors=True)
