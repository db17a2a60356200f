"""A name for each worker of a machine: NAME@HOST, then NAME-2@HOST, NAME-3@HOST, ...

Celery's remote control and the fleet's list of workers go by name, so two workers of one name would
count as one: their slots would be announced once, and half of them would stay idle. A worker
therefore reserves its name on its machine for as long as it lives. The kernel ends the reservation
with the process, so the next worker that is started gets the lowest number that is free, and one
that is restarted gets the name that it had.

"Machine" means what shares a network: the containers of one pod are told apart, and containers on
networks of their own have host names of their own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import logging
import os
import socket
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

LOCALHOST = frozenset({"localhost", "127.0.0.1", "::1"})

logger = logging.getLogger(__name__)

_reservations: list[socket.socket | int] = []
"""Open until this process ends: closing one would free its name."""


def reserve(node: str, broker_url: str) -> str:
    """Return `node` (NAME@HOST), or the first of its numbered names that is free on this machine.

    Workers of different brokers do not see each other, and may have the same name.
    """
    name, _, host = node.partition("@")
    broker = _broker(broker_url)
    for number in itertools.count(1):
        candidate = node if number == 1 else f"{name}-{number}@{host}"
        if _is_free(f"{broker} {candidate}"):
            break
    if candidate != node:
        logger.warning("another worker of this machine is %s: this one is %s", node, candidate)
    return candidate


def _broker(url: str) -> str:
    """Return what is the same in all spellings of a broker's URL; no password."""
    parts = urlsplit(url)
    host = "localhost" if parts.hostname in LOCALHOST else parts.hostname
    return f"{host}:{parts.port or 6379}{parts.path or '/0'}" if host else parts.path


def _is_free(name: str) -> bool:
    """Reserve a name unless a process has it."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    if sys.platform == "linux":
        # An abstract socket: no file that could be left behind, or be removed by a cleaner.
        taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            taken.bind(f"\0clinvk-worker-{digest}")
        except OSError as error:
            taken.close()
            if error.errno == errno.EADDRINUSE:
                return False
        else:
            _reservations.append(taken)
            return True
    return _lock(digest)


def _lock(digest: str) -> bool:
    path = Path(tempfile.gettempdir()) / f"clinvk-worker-{digest[:16]}.lock"
    with contextlib.suppress(PermissionError):  # another user's: taken
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            _reservations.append(lock)
            return True
    return False
