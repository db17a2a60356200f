"""What a worker announces of itself to the fleet."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from clinvk.backends.base import Backend

VERSION_SECONDS = 60.0


def entry(slots: int, queues: Sequence[str]) -> dict[str, Any]:
    """Return the announcement: where, what, how much at once, from which queues."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": clinvk_version(),
        "python": platform.python_version(),
        "slots": slots,
        "queues": list(queues),
        "started_ms": int(time.time() * 1000),
        "clis": {},
    }


@cache
def clinvk_version() -> str:
    """Return the version of what is installed here."""
    return version("clinvk")


def find_versions(backends: Sequence[Backend], tell: Callable[..., None]) -> None:
    """Ask each CLI for its version, in a thread of its own: some take a second to answer."""
    asked = [backend for backend in backends if backend.version_argv]

    def ask() -> None:
        tell(clis={backend.name: _version(backend.version_argv) for backend in asked})

    if asked:
        threading.Thread(target=ask, name="clinvk-versions", daemon=True).start()


def _version(argv: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().partition("\n")[0][:100] or None
