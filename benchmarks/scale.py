"""Figures of size: a client of 1,000 to 100,000 tasks beside a real server of its own.

Times are those of whole commands. Memory is the peak of a command's process, as the system
counts it; the server's is what it says of itself.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from clinvk.core.spec import TaskResult, TaskStatus
from clinvk.local.server import find_server
from clinvk.store.keys import key
from clinvk.store.store import Store

PYTHON = [sys.executable]
CLINVK = [*PYTHON, "-m", "clinvk"]
ROUNDS = {1: 9, 1_000: 9, 10_000: 3, 100_000: 1}
"""How often each size is submitted; the medians count."""
FEW, MANY = 1_000, 100_000
PROMPT = "Review file {} of the project, and say in one line what it does and what is wrong."
ANSWER = "The file reads the settings; nothing is wrong with it. " * 10
IMPORTS = "import clinvk.cli.main, clinvk.commands.runs, clinvk.runs.celery_client"
START_SECONDS = 30.0

Row = tuple[str, float, str, float | None, str]
"""A figure: its name, value, unit, and the value and name of what it is held against."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended: what it took, and the beginning of what it printed."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    stdout: str


def run(argv: Sequence[str]) -> Ended:
    with tempfile.TemporaryFile("w+") as stdout:
        started = time.perf_counter()
        process = subprocess.Popen(argv, stdout=stdout)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, argv)
        stdout.seek(0)
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return Ended(
            seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_mib=usage.ru_maxrss / unit,
            stdout=stdout.read(1000),
        )


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, Store]]:
    """Give the URL of a server of our own, which listens on a socket of this folder only."""
    socket = folder / "s.sock"
    process = subprocess.Popen(
        [find_server(None), "--port", "0", "--unixsocket", str(socket), "--save", ""],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    url = f"redis+socket://{socket}"
    try:
        with closing(Store.connect(url)) as store:
            wait_for(store)
            yield url, store
    finally:
        process.terminate()
        process.wait()


def wait_for(store: Store) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while True:
        try:
            store.redis.ping()
        except redis.ConnectionError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return


@dataclass(frozen=True)
class Submitted:
    """A run of some size: its last round, and the medians of all."""

    run: str
    seconds: float
    cpu_seconds: float
    peak_mib: float
    bytes_per_task: float


class Scale:
    """Submits runs of any size to one server."""

    def __init__(self, folder: Path, url: str, store: Store) -> None:
        self.folder = folder
        self.url = url
        self.store = store

    def command(self, *arguments: str) -> list[str]:
        return [*CLINVK, *arguments, "--broker", self.url]

    def submit(self, tasks: int) -> Submitted:
        file = self.folder / f"{tasks}.jsonl"
        prompts = [PROMPT.format(index) for index in range(tasks)]
        with file.open("w") as stream:
            for prompt in prompts:
                stream.write(json.dumps({"backend": "echo", "prompt": prompt}) + "\n")
        argv = self.command("parallel", "--file", str(file), "--detach", "--wait-for-workers")
        rounds, used = [], 0
        for _ in range(ROUNDS[tasks]):
            self.store.redis.execute_command("FLUSHALL", "SYNC")
            before = self.used_bytes()
            rounds.append(run(argv))
            used = self.used_bytes() - before
        return Submitted(
            run=rounds[-1].stdout.strip(),
            seconds=statistics.median(ended.seconds for ended in rounds),
            cpu_seconds=statistics.median(ended.cpu_seconds for ended in rounds),
            peak_mib=max(ended.peak_mib for ended in rounds),
            bytes_per_task=(used - sum(map(len, prompts))) / tasks,
        )

    def used_bytes(self) -> int:
        return int(self.store.redis.info("memory")["used_memory"])

    def answer(self, name: str, tasks: int) -> None:
        """Put a result into the run's record for each task, as workers would."""
        for first in range(0, tasks, FEW):
            results = {
                index: TaskResult(
                    index=index,
                    status=TaskStatus.OK,
                    exit_code=0,
                    duration_seconds=1.0,
                    output=ANSWER,
                ).to_wire()
                for index in range(first, min(first + FEW, tasks))
            }
            self.store.redis.hset(key("results", name), mapping=results)


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as (url, store):
        scale = Scale(Path(name), url, store)
        one = scale.submit(1)
        found, results = {}, {}
        for tasks in [size for size in ROUNDS if size > 1]:
            found[tasks] = scale.submit(tasks)
            few = found[FEW]
            yield f"submit {tasks} tasks", found[tasks].seconds, "s", one.seconds, "1 task"
            peak, against = found[tasks].peak_mib, few.peak_mib
            yield f"peak memory, submit {tasks} tasks", peak, "MiB", against, f"{FEW} tasks"
            per_task = found[tasks].bytes_per_task
            yield f"Redis, each of {tasks} beside its prompt", per_task, "B", None, ""
            if tasks in (FEW, MANY):
                yield status(scale, found[tasks].run, tasks)
                scale.answer(found[tasks].run, tasks)
                results[tasks] = run(scale.command("results", found[tasks].run, "--json"))
                peak, against = results[tasks].peak_mib, results[FEW].peak_mib
                yield f"peak memory, results of {tasks}", peak, "MiB", against, f"{FEW} tasks"
        # Not of the whole time: that varies by as much as 1,000 tasks take.
        many, few_each = (
            (found[tasks].cpu_seconds - one.cpu_seconds) / tasks * 1e6 for tasks in (MANY, FEW)
        )
        name = f"processor time of submit, each of {MANY} tasks"
        yield name, many, "us", few_each, f"each of {FEW}"


def status(scale: Scale, name: str, tasks: int) -> Row:
    """Time `clinvk status` and what it imports, in turns."""
    turns = [
        (run(scale.command("status", name)).seconds, run([*PYTHON, "-c", IMPORTS]).seconds)
        for _ in range(ROUNDS[FEW])
    ]
    ours, imports = (statistics.median(column) for column in zip(*turns, strict=True))
    return f"status of {tasks} tasks", ours, "s", imports, "its imports"
