"""Workers as processes on this machine, however they are started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from clinvk.core.worker_config import BROKER_URL
from clinvk.store.store import Store
from tests import harness

HOST = socket.gethostname()
CELERY = [*harness.PYTHON, "-m", "celery", "-A", "workers.app"]
OURS = [*harness.PYTHON, "-m", "workers", "--queues", "clinvk.echo", "--concurrency", "6"]


def worker_of(process: subprocess.Popen[bytes]) -> int:
    """The process of the worker: a child of its supervisor, unless Celery's command started it."""
    own, supervised = psutil.Process(process.pid), []
    for child in own.children():
        with contextlib.suppress(psutil.Error):  # a command that ends just now
            if child.cmdline() == own.cmdline():
                supervised.append(child.pid)
    return supervised[0] if supervised else process.pid


class Workers:
    """Workers of one broker on this machine."""

    def __init__(self, broker_url: str, log: Path) -> None:
        self.env = {**os.environ, BROKER_URL: broker_url}
        self.store = Store.connect(broker_url)
        self._log = log
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start one more and wait until it is announced."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._processes.append(process)
        harness.wait_until(
            lambda: worker_of(process) in {e["pid"] for e in self.store.workers().values()},
            "the worker to be announced",
        )
        return process

    def pinged(self) -> list[str]:
        """The workers that answer `celery inspect ping`."""
        done = subprocess.run(
            [*CELERY, "inspect", "ping", "--json"],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,  # nobody has answered
        )
        return sorted(json.loads(done.stdout.splitlines()[0])) if done.returncode == 0 else []

    def slots(self) -> int:
        """The free and taken slots of the fleet, as admission counts them."""
        (queue,) = self.store.queues()
        return queue.slots

    def clinvk(
        self, *arguments: str, stdin: str | None = None, command: Sequence[str] = harness.CLINVK
    ) -> harness.Completed:
        return harness.clinvk(*arguments, stdin=stdin, env=self.env, command=command)

    def close(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.wait()
        self.store.close()


@pytest.fixture
def workers(broker_url: str, tmp_path: Path) -> Iterator[Workers]:
    found = Workers(broker_url, tmp_path / "workers.log")
    try:
        yield found
    finally:
        found.close()


def assert_both_count(workers: Workers, argv: list[str], name: str, slots: int) -> None:
    """Start two workers alike; each must be known to the fleet and to Celery, and do its part."""
    for _ in range(2):
        workers.start(argv)
    names = [f"{name}-2@{HOST}", f"{name}@{HOST}"]
    assert sorted(workers.store.workers()) == names
    assert workers.slots() == slots
    listed = workers.clinvk("workers", "--json")
    assert sorted(json.loads(listed.stdout)) == names
    harness.wait_until(lambda: workers.pinged() == names, "both to answer celery inspect ping")
    tasks = json.dumps([{"backend": "echo", "prompt": f"t{n}"} for n in range(20)])
    ended = workers.clinvk("parallel", "--max-parallel", "20", "--json", "-q", stdin=tasks)
    assert ended.status == 0, ended.stderr
    results = json.loads(ended.stdout)["results"]
    assert [result["output"] for result in results] == [f"t{n}" for n in range(20)]
    assert {result["worker"] for result in results} <= set(names)
