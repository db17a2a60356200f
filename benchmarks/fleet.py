"""Figures of a fleet: ten workers on one machine, a real server over TCP.

Measured from the tasks' own start and end records, not from what clinvk says.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from clinvk.local.server import find_server
from clinvk.store.store import Store
from tests import harness

CLINVK = [sys.executable, "-m", "clinvk"]
RECORD = """#!/bin/bash
read -r name seconds how
[ "$how" = stubborn ] && trap '' TERM
echo "start ${EPOCHREALTIME/[.,]/}000 $name" >> "$0.log"
sleep "$seconds"
echo "end ${EPOCHREALTIME/[.,]/}000 $name" >> "$0.log"
[ "$how" != fail ]
"""
"""Its prompt: `NAME SECONDS`, and `stubborn` for a program that ignores TERM, or `fail`."""


class Fleet:
    """A server and some workers, all on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "record"
        self.program.write_text(RECORD)
        self.program.chmod(0o755)
        config = folder / "config.json"
        config.write_text(json.dumps({"backends": {"record": {"command": [str(self.program)]}}}))
        port = harness.free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        self.env = {**os.environ, "CLINVK_BROKER_URL": self.url, "CLINVK_CONFIG": str(config)}
        self.processes = [
            subprocess.Popen(
                [find_server(None), "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
                cwd=folder,
                stdout=subprocess.DEVNULL,
            )
        ]
        self.store = Store.connect(self.url)
        self.wait(lambda: self._answers())

    def _answers(self) -> bool:
        try:
            return bool(self.store.redis.ping())
        except OSError:
            return False
        except Exception as error:
            if "onnect" in type(error).__name__:
                return False
            raise

    @staticmethod
    def wait(condition: Any, seconds: float = 60) -> None:
        give_up_at = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > give_up_at:
                raise TimeoutError
            time.sleep(0.01)

    def workers(self, count: int, slots: int) -> None:
        for number in range(count):
            argv = [*CLINVK, "worker", "--queues", "record", "--concurrency", str(slots)]
            self.processes.append(
                subprocess.Popen(
                    [*argv, "--name", f"w{number}"],
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        self.wait(lambda: len(self.store.workers()) == count)

    def clinvk(self, *arguments: str, stdin: str = "") -> str:
        return subprocess.run(
            [*CLINVK, *arguments],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        ).stdout

    def records(self) -> list[tuple[str, int, str]]:
        path = Path(f"{self.program}.log")
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return sorted(((w, int(t), n) for w, t, n in rows), key=lambda row: row[1])

    def running(self) -> bool:
        """Whether a process of a task is there."""
        for process in psutil.process_iter():
            try:
                if str(self.program) in process.cmdline():
                    return True
            except psutil.Error:
                continue
        return False

    def clear(self) -> None:
        Path(f"{self.program}.log").unlink(missing_ok=True)

    def close(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGKILL)
            process.wait()


@contextmanager
def fleet() -> Iterator[Fleet]:
    """Give a fleet that is taken down at the end."""
    with tempfile.TemporaryDirectory() as folder:
        made = Fleet(Path(folder))
        try:
            yield made
        finally:
            made.close()


def tasks(count: int, seconds: str, name: str = "t") -> str:
    return "".join(
        json.dumps({"backend": "record", "prompt": f"{name}{n} {seconds}\n"}) + "\n"
        for n in range(count)
    )


def instants(records: list[tuple[str, int, str]], limit: int) -> tuple[int, float]:
    """Return at how many instants more than the limit ran, and how much of the limit was used.

    Use is measured from when the limit was first reached to the last start: while work waits.
    """
    running = over = 0
    busy = last = 0
    first: int | None = None
    starts = [at for word, at, _ in records if word == "start"]
    for word, at, _ in records:
        if first is not None and at <= starts[-1]:
            busy += running * (at - last)
        last = at
        running += 1 if word == "start" else -1
        over += running > limit
        if first is None and running == limit:
            first = at
    span = starts[-1] - first if first is not None else 0
    return over, busy / (span * limit) if span else 0.0


def measure() -> Iterator[tuple[str, float, str]]:
    """Yield the figures of a fleet of ten workers: name, value, unit."""
    with fleet() as made:
        made.workers(10, slots=10)
        made.clinvk("queues", "set", "record", "--max-concurrency", "16")
        made.clinvk("parallel", "-q", "--max-parallel", "100", stdin=tasks(10_000, "0.25"))
        over, use = instants(made.records(), 16)
        yield "10,000 tasks of 0.25 s, limit 16: instants over the limit", over, ""
        yield "the same: use of the limit", 100 * use, "%"
        made.clear()
        made.clinvk("queues", "set", "record", "--max-concurrency", "20")
        big = made.clinvk("parallel", "--detach", "--max-parallel", "100", stdin=tasks(10_000, "1"))
        made.wait(lambda: len(made.records()) > 100)
        submitted = time.time_ns()
        made.clinvk("parallel", "-q", stdin=tasks(1, "0", "small"))
        began = next(at for word, at, name in made.records() if (word, name) == ("start", "small0"))
        yield (
            "1 task behind 10,000 of 1 s, 20 slots: from its command line to its start",
            (began - submitted) / 1e9,
            "s",
        )
        made.clinvk("cancel", big.strip())
        made.clinvk("wait", big.strip())
        made.clinvk("queues", "set", "record", "--max-concurrency", "0")
        for how in ("", " stubborn"):
            made.clear()
            lines = tasks(99, f"600{how}") + tasks(1, "8 fail", "failing")
            run = made.clinvk(
                *("parallel", "--detach", "--max-parallel", "100", "--fail-fast"), stdin=lines
            ).strip()
            made.wait(lambda: len(made.records()) >= 100)
            made.wait(lambda: any(word == "end" for word, *_ in made.records()))
            failed = next(at for word, at, _ in made.records() if word == "end")
            made.wait(lambda: not made.running())
            yield (
                f"fail-fast with 99 running{how or ' as usual'}, until no process is left",
                (time.time_ns() - failed) / 1e9,
                "s",
            )
            made.clinvk("wait", run)
