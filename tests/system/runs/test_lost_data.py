"""A server that loses data under a run: deleted, restarted without it, or taken over by a replica.

Nothing hangs, and nothing runs again whose result the surviving record or a worker has. Where the
record is gone, the client ends with exit code 4 and what it knows.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis

from clinvk.core.spec import TaskStatus
from clinvk.store.store import Store
from tests import harness

WORK = 'read -r name; echo "$name" >> {log}; sleep "${{name#*-}}"; echo "did $name"'


@dataclass
class Server:
    """A Redis on a port of its own."""

    program: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        argv = [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(argv, cwd=self.folder, stdout=subprocess.DEVNULL)
        harness.wait_until(lambda: harness.answers(self.client), f"server {self.port} to answer")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


class Proxy:
    """Forwards connections to one server, until it is switched to another."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self._closing = threading.Event()
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def switch(self, port: int) -> None:
        self._target = port
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closing.set()
        self._threads[0].join()
        self.switch(0)
        for thread in self._threads:
            thread.join()
        for each in (*self._open, self._listener):
            each.close()

    def _start(self, run: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=run, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                inner, _ = self._listener.accept()
            except TimeoutError:
                continue
            outer = socket.socket()
            self._open += [inner, outer]
            if outer.connect_ex(("127.0.0.1", self._target)):
                inner.shutdown(socket.SHUT_RDWR)
                continue
            self._start(_pump, inner, outer)
            self._start(_pump, outer, inner)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    program = harness.server_program()
    made = [Server(program, tmp_path / name, harness.free_port()) for name in ("first", "second")]
    yield made
    for server in made:
        server.kill()


@dataclass
class Fleet:
    """One worker, and what its tasks have begun."""

    folder: Path
    url: str

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def begun(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    @contextlib.contextmanager
    def worker(self, slots: int) -> Iterator[None]:
        work = WORK.format(log=self.log)
        self.config.write_text(json.dumps({"backends": {"work": {"command": ["sh", "-c", work]}}}))
        argv = [*harness.CLINVK, "worker", "--config", str(self.config), "--broker", self.url]
        argv += ["--queues", "work", "--concurrency", str(slots)]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            store = Store.connect(self.url)
            harness.wait_until(store.workers, "the worker to announce itself")
            store.close()
            yield
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def parallel(self, *names: str) -> subprocess.Popen[str]:
        """Run tasks; `name-SECONDS` takes so long."""
        tasks = [{"backend": "work", "prompt": name} for name in names]
        file = self.folder / "tasks.json"
        file.write_text(json.dumps({"tasks": tasks, "max_parallel": 4}))
        argv = [*harness.CLINVK, "parallel", "--json", "--file", str(file)]
        argv += ["--config", str(self.config), "--broker", self.url]
        with self.messages.open("w") as stderr:
            return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=stderr, text=True)

    @property
    def messages(self) -> Path:
        """What the client writes to stderr."""
        return self.folder / "messages"


def sleepers(seconds: str) -> list[psutil.Process]:
    """The commands of tasks that take so long."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline() == ["sleep", seconds] and harness.running(process.pid):
                found.append(process)
    return found


@pytest.mark.parametrize("how", ["flushed", "restarted"])
def test_a_run_whose_data_is_gone_ends_with_what_is_known(
    servers: list[Server], tmp_path: Path, how: str
) -> None:
    server, _ = servers
    server.start()
    fleet = Fleet(tmp_path, server.url)
    with fleet.worker(slots=3):
        long = f"600.{server.port}"  # tells these tasks from those of other tests
        client = fleet.parallel("a-0", f"b-{long}", f"c-{long}")
        store = Store.connect(server.url)
        harness.wait_until(
            lambda: any(run.ok == 1 and run.running == 2 for run in store.runs(9)), "one result"
        )
        harness.wait_until(lambda: "a-0" in fleet.messages.read_text(), "the client to have it")
        if how == "flushed":
            server.client.flushall()
        else:
            server.kill()
            server.start()
        stdout, _ = client.communicate(timeout=harness.TIMEOUT_SECONDS)
        stderr = fleet.messages.read_text()
        assert client.returncode == 4, stderr
        assert "is gone from the broker" in stderr
        results = json.loads(stdout)["results"]
        assert [result["status"] for result in results] == ["ok", "lost", "lost"]
        assert results[0]["output"] == "did a-0"
        # Nobody will ask for these any more.
        harness.wait_until(lambda: not sleepers(long), "the worker to stop its commands")
    assert sorted(fleet.begun()) == ["a-0", f"b-{long}", f"c-{long}"]


def test_a_replica_that_was_behind_takes_over(servers: list[Server], tmp_path: Path) -> None:
    first, second = servers
    first.start()
    second.start()
    with contextlib.closing(Proxy(first.port)) as proxy:
        take_over(first, second, proxy, tmp_path)


def take_over(first: Server, second: Server, proxy: Proxy, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, proxy.url)
    names = [f"n{number}-0.2" for number in range(24)]
    with fleet.worker(slots=4):
        second.client.replicaof("127.0.0.1", str(first.port))
        harness.wait_until(
            lambda: second.client.info("replication")["master_link_status"] == "up", "replication"
        )
        client = fleet.parallel(*names)
        behind = Store.connect(second.url)
        harness.wait_until(lambda: any(run.ok >= 2 for run in behind.runs(9)), "the replica")
        second.client.replicaof("NO", "ONE")  # from here on it hears of nothing
        (stale,) = behind.runs(1)
        ahead = Store.connect(first.url)
        harness.wait_until(
            lambda: any(run.ok >= stale.ok + 4 for run in ahead.runs(9)), "more results"
        )
        recorded = recorded_by(ahead, stale.run_id)
        proxy.switch(second.port)
        first.kill()
        client.communicate(timeout=harness.TIMEOUT_SECONDS)
        stderr = fleet.messages.read_text()
        assert client.returncode in (0, 4), stderr
        harness.wait_until(
            lambda: all(run.ended_ms is not None for run in behind.runs(9)), "the run to end"
        )
        (summary,) = behind.runs(1)
        assert (summary.ok, summary.total) == (24, 24)
        results = list(behind.results(summary.run_id, range(24)))
    assert [result.status for result in results if result] == [TaskStatus.OK] * 24
    assert [result.output for result in results if result] == [f"did {name}" for name in names]
    again = {name for name, count in Counter(fleet.begun()).items() if count > 1}
    assert not again & recorded, "what a worker had recorded must not run again"


def recorded_by(store: Store, run: str) -> set[str]:
    """The tasks of the run that have their result."""
    found = enumerate(store.results(run, range(24)))
    return {f"n{index}-0.2" for index, result in found if result is not None}
