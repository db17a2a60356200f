"""Live steps: a worker with 16 tasks that each print 200 events a second, and who watches one.

The program that prints is in the place of a CLI whose events are read; each event says when it was
printed. How long that is before `clinvk logs --follow` prints the step is the delay, over a server
on this machine. Calls are counted as EVALSHA, so those that renew leases are in them as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.private import workers
from benchmarks.scale import Row, server
from benchmarks.slots import resident
from clinvk.store.store import Store

CLINVK = [sys.executable, "-m", "clinvk"]
BACKEND = "claude"
TASKS, FEW_TASKS, EVENTS = 16, 2, 200
SETTLE_SECONDS = 5.0
WATCH_SECONDS = 30.0
PROGRAM = """#!{python} -IS
import json, os, time
number, next_at = 0, time.monotonic()
while True:
    text = "%.3f event %d, %s" % (time.time(), number, "words " * 40)
    message = {{"id": "m%d" % (number // 10), "content": [{{"type": "text", "text": text}}]}}
    event = {{"type": "assistant", "message": message, "session_id": "x" * 36, "uuid": "y" * 36}}
    os.write(1, json.dumps(event).encode() + b"\\n")
    number, next_at = number + 1, next_at + 1 / {events}
    time.sleep(max(0, next_at - time.monotonic()))
"""


@dataclass(frozen=True)
class Load:
    """A worker that reads all these events, and the server beside it."""

    url: str
    store: Store
    run: str
    worker: psutil.Process

    def server_seconds(self) -> float:
        used = self.store.redis.info("cpu")
        return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])

    def calls(self) -> int:
        return int(self.store.redis.info("commandstats")["cmdstat_evalsha"]["calls"])

    def worker_seconds(self) -> float:
        times = self.worker.cpu_times()
        return times.user + times.system


@contextmanager
def load(folder: Path, detail: str, tasks: int = TASKS) -> Iterator[Load]:
    """Have a worker read the events of its tasks, in this detail of steps."""
    folder.mkdir()
    program = folder / "bin" / BACKEND
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable, events=EVENTS))
    program.chmod(0o755)
    config, file = folder / "config.yaml", folder / "tasks.jsonl"
    config.write_text(f'steps: "{detail}"\n')
    file.write_text(json.dumps({"backend": BACKEND, "prompt": "x"}) + "\n")
    file.write_text(file.read_text() * tasks)
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{program.parent}{os.pathsep}{path}"
    try:
        with (
            server(folder) as (url, store),
            workers(url, store, config, BACKEND, 1, tasks),
        ):
            (entry,) = store.workers().values()
            argv = [*CLINVK, "parallel", "--broker", url, "--config", str(config), "--detach"]
            argv += ["--file", str(file), "--max-parallel", str(tasks)]
            run = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
            time.sleep(SETTLE_SECONDS)
            yield Load(url, store, run, psutil.Process(entry["pid"]))
            stop = [*CLINVK, "cancel", run, "--broker", url]
            subprocess.run(stop, check=True, capture_output=True)
            wait = [*CLINVK, "wait", run, "--broker", url]
            subprocess.run(wait, check=False, capture_output=True)
    finally:
        os.environ["PATH"] = path


def measure(seconds: float) -> Iterator[Row]:
    """Yield the figures; the worker is watched for so many seconds."""
    what = f"{TASKS} tasks, {EVENTS} events a second each"
    with tempfile.TemporaryDirectory() as name:
        with load(Path(name) / "off", "off") as off:
            silent, _, _ = watched(off, min(seconds, WATCH_SECONDS))
        with load(Path(name) / "summary", "summary") as loaded:
            used, of_server, calls = watched(loaded, seconds / 10)
            early = resident(loaded.worker)
            rest = watched(loaded, 0.9 * seconds)
            late = resident(loaded.worker)
            of_many = sorted(followed(loaded, min(seconds, WATCH_SECONDS)))
        with load(Path(name) / "few", "summary", FEW_TASKS) as loaded:
            of_few = sorted(followed(loaded, min(seconds, WATCH_SECONDS)))
    weights = (0.1, 0.9)
    used, of_server, calls = (
        sum(weight * value for weight, value in zip(weights, pair, strict=True))
        for pair in zip((used, of_server, calls), rest, strict=True)
    )
    yield f"{what}: a worker's share of a core", 100 * used, "%", 100 * silent, "steps: off"
    yield "the server's share of a core", 100 * of_server, "%", None, ""
    yield "memory of the worker at the end", late, "MiB", early, f"after {seconds / 10:.0f} s"
    yield "calls of Redis, of the worker in all", calls, "/s", None, ""
    for tasks, delays in ((TASKS, of_many), (FEW_TASKS, of_few)):
        p50, p99 = (1000 * delays[int(share * len(delays))] for share in (0.5, 0.99))
        yield f"{tasks} such tasks: from print to `logs --follow`, p50", p50, "ms", None, ""
        yield f"the same, p99 of {len(delays)} steps", p99, "ms", None, ""


def watched(loaded: Load, seconds: float) -> tuple[float, float, float]:
    """Return the shares of a core that worker and server take, and the calls a second."""
    started = time.monotonic()
    before = loaded.worker_seconds(), loaded.server_seconds(), loaded.calls()
    time.sleep(seconds)
    after = loaded.worker_seconds(), loaded.server_seconds(), loaded.calls()
    took = time.monotonic() - started
    worker, of_server, calls = ((b - a) / took for a, b in zip(before, after, strict=True))
    return worker, of_server, calls


def followed(loaded: Load, seconds: float) -> Iterator[float]:
    """Yield how long each step of a task took from its print to the follower's line, in seconds.

    What was printed before the follower began is passed over.
    """
    argv = [*CLINVK, "logs", loaded.run, "1", "--follow", "--json", "--broker", loaded.url]
    began, end = time.time() + SETTLE_SECONDS, time.time() + SETTLE_SECONDS + seconds
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        for line in follower.stdout:
            step, now = json.loads(line), time.time()
            if step["kind"] == "message":
                printed_at = float(step["text"].split()[0])
                if printed_at > began:
                    yield now - printed_at
            if now > end:
                break
        follower.kill()
