"""Check whether the worker of this container lives: exit code 0 or 1, a line on standard output.

A worker announces itself to the fleet every few seconds, and its announcement expires; the thread
that does so also renews the worker's leases. So an announcement that has expired means that the
worker hangs. The check is one connection and two reads; `celery inspect ping` would start Celery,
send a broadcast to the whole fleet and wait for a second.

With `--alive`, a broker that cannot be reached is not held against the worker: it outlives restarts
of Redis, and must not be killed with an hour's task in it because Redis is away.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import closing

import redis

from clinvk.core.worker_config import BROKER_URL
from clinvk.privacy import seclude
from clinvk.store.store import Store


def main() -> int:
    """Look for the entry of this host's worker; returns the exit code."""
    seclude()
    is_alive_enough = "--alive" in sys.argv[1:]
    host = socket.gethostname()
    try:
        with closing(Store.connect(os.environ[BROKER_URL])) as store:
            entries = store.workers()
    except redis.RedisError as error:
        sys.stdout.write(f"the broker cannot be reached: {type(error).__name__}\n")
        return 0 if is_alive_enough else 1
    found = [name for name, entry in entries.items() if entry.get("host") == host]
    sys.stdout.write(f"{', '.join(found)}: announced\n" if found else f"no worker of {host}\n")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
