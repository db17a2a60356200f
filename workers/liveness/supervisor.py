"""The process that sees a worker's end, ends what it ran, and tells the fleet.

A worker that dies at once (`kill -9`, out of memory, a crash) leaves its commands running, and
Redis only knows that it is silent. Its supervisor holds the other end of a pipe: when that closes
without a word, it ends everything that carries the worker's mark, and gives its leases up, so that
the tasks run elsewhere at once. Where the supervisor dies too, leases run out instead
(`clinvk/store/failure_detector.py`); a container or unit that is killed whole takes the commands
with it.

Started by the worker as `python -m workers.liveness.supervisor OWNER`, with the broker in the
environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from clinvk.core.worker_config import BROKER_URL
from clinvk.store.failure_detector import SILENCE_MS

ALL_IS_WELL = b"."
"""What a worker writes before it ends in order, with nothing left to run."""
GRACE_SECONDS = 2.0
LOOKS = 3
LOOK_SECONDS = 0.05
"""A process may just be starting another: only several looks that find nothing are an end."""
TIMEOUT_SECONDS = SILENCE_MS / 1000
"""How long to try to reach Redis; after that the leases count as lost without us."""
RETRY_SECONDS = 0.5


def start(owner: str, broker_url: str) -> subprocess.Popen[bytes]:
    """Start the supervisor of this process; `shutdown` ends it."""
    return subprocess.Popen(
        [sys.executable, "-m", "workers.liveness.supervisor", owner],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, BROKER_URL: broker_url},
        start_new_session=True,
        bufsize=0,
    )


def shutdown(supervisor: subprocess.Popen[bytes]) -> None:
    """Tell the supervisor that nothing is left to do, and wait for its end."""
    assert supervisor.stdin is not None
    try:
        supervisor.stdin.write(ALL_IS_WELL)
        supervisor.stdin.close()
    except BrokenPipeError:
        pass
    supervisor.wait()


def main() -> int:
    """Wait for the worker's end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # meant for the worker; its end is what counts
    if os.read(0, 1) != ALL_IS_WELL:
        owner = sys.argv[1]
        end_commands(owner)
        give_up(owner, os.environ[BROKER_URL])
    return 0


def end_commands(owner: str) -> None:
    """End all processes that a worker left."""
    from workers.execution import process_tree

    clear = 0
    while clear < LOOKS:
        left = process_tree.marked(process_tree.OWNER, owner)
        process_tree.end(left, GRACE_SECONDS)
        clear = 0 if left else clear + 1
        time.sleep(LOOK_SECONDS)


def give_up(owner: str, broker_url: str) -> None:
    """Give a worker's leases up, as soon as Redis can be told."""
    import redis

    from clinvk.store.store import Store

    store = Store.connect(broker_url)
    give_up_at = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < give_up_at:
        try:
            store.release(owner)
        except redis.RedisError:
            time.sleep(RETRY_SECONDS)
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
