"""The process that sees a worker's end, ends what the worker ran, and releases its leases.

A worker that dies at once (`kill -9`, out of memory, a crash) leaves its commands running, and
Redis only knows that it is silent. Its supervisor holds the other end of a pipe: when that closes
without a word, it ends every process that carries the worker's tag in its environment, and then
releases the worker's leases, so that the tasks run elsewhere at once. Where the supervisor dies
too, the leases run out instead (`clinvk/store/failure_detector.py`); a container or unit that is
killed whole takes the commands with it.

Started by the worker as `python -m workers.liveness.supervisor OWNER`, with the broker in the
environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Self

from clinvk.core.worker_config import BROKER_URL
from clinvk.store.failure_detector import SILENCE_MS

DISMISSED = b"."
"""What a worker writes before it ends in order, with nothing left to run."""
GRACE_SECONDS = 2.0
LOOKS = 3
LOOK_SECONDS = 0.05
"""A process may just be starting another: only several looks that find nothing are an end."""
TIMEOUT_SECONDS = SILENCE_MS / 1000
"""How long to try to reach Redis; after that the leases count as lost without us."""


class WorkerSupervisor:
    """The supervisor as its worker sees it: a child process, on the other end of a pipe."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @classmethod
    def start(cls, owner: str, broker_url: str) -> Self:
        """Start the supervisor of this process."""
        from workers.execution import process_tree

        process = subprocess.Popen(
            [sys.executable, "-m", "workers.liveness.supervisor", owner],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, BROKER_URL: broker_url},
            start_new_session=True,
            bufsize=0,
        )
        process_tree.exempt(process.pid)
        return cls(process)

    def dismiss(self) -> None:
        """Tell it that this worker ends in order and leaves nothing, and wait for its end."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(DISMISSED)
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._process.wait()


def main() -> int:
    """Wait for the worker's end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # meant for the worker; its end is what counts
    if os.read(0, 1) != DISMISSED:
        owner = sys.argv[1]
        end_commands(owner)
        release_leases(owner, os.environ[BROKER_URL])
    return 0


def end_commands(owner: str) -> None:
    """End all processes that a worker left, and remove its tasks' private directories."""
    from workers.execution import process_tree
    from workers.execution.sandbox import private

    clear = 0
    while clear < LOOKS:
        left = process_tree.tagged(process_tree.OWNER_TAG, owner)
        process_tree.end(left, GRACE_SECONDS)
        clear = 0 if left else clear + 1
        time.sleep(LOOK_SECONDS)
    private.remove_stale()


def release_leases(owner: str, broker_url: str) -> None:
    """Release a worker's leases, as soon as Redis can be told."""
    import redis

    from clinvk.store.connection import retry
    from clinvk.store.store import Store

    store = Store.connect(broker_url)
    with contextlib.suppress(redis.RedisError):  # the leases run out, then
        retry(lambda: store.release(owner), TIMEOUT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
