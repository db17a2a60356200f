"""Workers of our own, beside a server of our own (`benchmarks.scale.server`)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clinvk.store.store import Store

START_SECONDS = 60.0
STOP_SECONDS = 10.0


@contextmanager
def workers(
    url: str, store: Store, config: Path, queue: str, count: int, slots: int
) -> Iterator[None]:
    """Have some workers serve a queue; they are ready when this is entered."""
    argv = [sys.executable, "-m", "clinvk", "worker", "--broker", url, "--config", str(config)]
    argv += ["--queues", queue, "--concurrency", str(slots)]
    processes = [
        subprocess.Popen(
            [*argv, "--name", f"w{number}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in range(count)
    ]
    try:
        give_up_at = time.monotonic() + START_SECONDS
        while len(store.workers()) < count:
            if time.monotonic() > give_up_at:
                raise TimeoutError
            time.sleep(0.05)
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
