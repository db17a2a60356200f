"""Machines for tests: network namespaces joined to this one by a pair of virtual interfaces.

Needs root on Linux, and fails without: what these tests hold cannot be held otherwise.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from pyroute2 import IPRoute, NetNS, netns

from clinvk.core.worker_config import BROKER_URL
from clinvk.store.store import Store
from tests import harness

PASSWORD = "s3cret/with:odd@signs"
PASSWORD_IN_URL = "s3cret%2Fwith%3Aodd%40signs"
ENTER = """
import ctypes, os, socket, sys
import psutil
from pyroute2 import netns
netns.setns(sys.argv[1])
if host := os.environ.pop("HOST_NAME_OF_MACHINE", ""):
    assert ctypes.CDLL(None).unshare(0x04000000) == 0  # CLONE_NEWUTS
    socket.sethostname(host)
os.execv(sys.argv[2], sys.argv[2:])
"""

LOG_TASK = """
import os, sys, time
def note(word):
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{word} {time.monotonic_ns()} {os.getpid()} {prompt}\\n".encode())
    os.close(fd)
prompt = sys.stdin.read().strip()
note("start")
words = prompt.split()
if words[1] == "fail":
    sys.exit(3)
time.sleep(float(words[1]))
note("end")
print(prompt)
"""
"""A CLI that keeps its own record. Its prompt: `NAME SECONDS`, or `NAME fail`."""


NO_VARIABLES: Mapping[str, str] = {}


@dataclass
class Machine:
    """One machine; its workers reach Redis at `gateway`."""

    name: str
    gateway: str
    link: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, argv: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as stream:
            process = subprocess.Popen(
                [sys.executable, "-c", ENTER, self.name, *argv],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self.processes.append(process)
        return process


@dataclass(frozen=True)
class Watched:
    """A client that follows a run, and what it writes."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def ended(self) -> harness.Completed:
        """Wait for its end."""
        return harness.Completed(self.process.wait(), self.out.read_text(), self.err.read_text())


class Fleet:
    """A Redis server with a password on TCP, and machines that reach it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "tasks.log"
        self._ip = IPRoute()
        self._machines: list[Machine] = []
        self._numbers = itertools.count()
        self._net = 16 + os.getpid() % 200
        self._port = 20_000 + os.getpid() % 20_000
        self._server = self._start_server()
        self.store = Store.connect(self.url("127.0.0.1"))

    def _start_server(self) -> subprocess.Popen[bytes]:
        log = ("--appendonly", "yes", "--appendfsync", "always")
        server = subprocess.Popen(
            [
                *(harness.server_program(), "--port", str(self._port), "--requirepass", PASSWORD),
                *("--save", "", *log),
            ],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )
        store = Store.connect(self.url("127.0.0.1"))
        harness.wait_until(lambda: harness.answers(store.redis), "the server to answer")
        store.close()
        return server

    def url(self, host: str) -> str:
        return f"redis://:{PASSWORD_IN_URL}@{host}:{self._port}/0"

    @property
    def env(self) -> dict[str, str]:
        """The environment of a client on this machine."""
        return {
            **os.environ,
            BROKER_URL: self.url("127.0.0.1"),
            "CLINVK_CONFIG": str(self._config()),
        }

    def _config(self) -> Path:
        command = [sys.executable, "-I", "-S", "-c", LOG_TASK, str(self.log)]
        backends = {name: {"command": command} for name in ("one", "two")}
        path = self.folder / "config.json"
        if not path.exists():
            path.write_text(json.dumps({"backends": backends}))
        return path

    def machine(self) -> Machine:
        """Add a machine."""
        number = next(self._numbers)
        name = f"cl{os.getpid()}n{number}"
        outside, inside = f"{name}h"[-15:], f"{name}i"[-15:]
        address = f"10.{self._net}.{number}"
        netns.create(name)
        self._ip.link(
            "add", ifname=outside, kind="veth", peer={"ifname": inside, "net_ns_fd": name}
        )
        index = self._ip.link_lookup(ifname=outside)[0]
        self._ip.addr("add", index=index, address=f"{address}.1", prefixlen=30)
        self._ip.link("set", index=index, state="up")
        with NetNS(name) as there:
            link = there.link_lookup(ifname=inside)[0]
            there.addr("add", index=link, address=f"{address}.2", prefixlen=30)
            there.link("set", index=link, state="up")
            there.link("set", index=there.link_lookup(ifname="lo")[0], state="up")
        machine = Machine(name, f"{address}.1", index)
        self._machines.append(machine)
        return machine

    def cut(self, machine: Machine) -> None:
        """Take a machine off the network: nothing comes through, and nobody is told."""
        self._ip.link("set", index=machine.link, state="down")

    def mend(self, machine: Machine) -> None:
        """Put a machine back on the network."""
        self._ip.link("set", index=machine.link, state="up")

    def kill_server(self) -> None:
        """Kill the server, as a crash would."""
        self._server.kill()
        self._server.wait()

    def restart_server(self) -> None:
        """Start the server again, with the log that it wrote."""
        self._server = self._start_server()

    def of_worker(self, worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
        """The processes of a worker: its supervisor, itself, its commands."""
        process = psutil.Process(worker.pid)
        return [process, *process.children(recursive=True)]

    def events(self, run: str, kind: str) -> list[dict[str, str]]:
        """The events of this kind in a run's stream."""
        _, events = self.store.wait_events(run, "0", 10)
        return [event for event in events if event["kind"] == kind]

    def worker(
        self,
        machine: Machine,
        slots: int,
        queues: str = "one,two",
        name: str = "w",
        variables: Mapping[str, str] = NO_VARIABLES,
        *,
        waits: bool = True,
    ) -> Any:
        """Start a worker on a machine, and wait until the fleet knows it."""
        env = {**self.env, BROKER_URL: self.url(machine.gateway), **variables}
        known = set(self.store.workers())
        argv = [*harness.CLINVK, "worker", "--queues", queues, "--concurrency", str(slots)]
        process = machine.start(
            [*argv, "--name", f"{name}-{machine.name}"], env, self.folder / f"{machine.name}.log"
        )
        if waits:
            harness.wait_until(lambda: set(self.store.workers()) - known, "the worker to be known")
        return process

    def clinvk(self, *arguments: str, stdin: str | None = None) -> harness.Completed:
        return harness.clinvk(*arguments, stdin=stdin, env=self.env)

    def watched(self, stdin: str) -> Watched:
        """Start a client that submits these tasks and follows their run."""
        out, err = self.folder / "client.out", self.folder / "client.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [*harness.CLINVK, "parallel", "--json"],
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
            )
        assert process.stdin is not None
        process.stdin.write(stdin.encode())
        process.stdin.close()
        return Watched(process, out, err)

    def starts(self) -> list[str]:
        """The names of the tasks that were begun, in order of their beginning."""
        return [line[3] for line in self.records() if line[0] == "start"]

    def records(self) -> list[list[str]]:
        """The tasks' own record: start or end, nanoseconds, pid, name, argument."""
        if not self.log.exists():
            return []
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return sorted(lines, key=lambda line: int(line[1]))

    def most_at_once(self) -> int:
        """How many tasks ran at the same instant, at most."""
        running = most = 0
        for line in self.records():
            running += 1 if line[0] == "start" else -1
            most = max(most, running)
        return most

    def leases(self) -> list[str]:
        """All leases that are held."""
        return [
            lease.decode()
            for queue in self.store.queues()
            for lease in self.store.redis.zrange(f"clinvk:queue:{queue.name}:leases", 0, -1)
        ]

    def close(self) -> None:
        """Stop everything; what workers ran must be gone, and nothing be held."""
        for machine in self._machines:
            for process in machine.processes:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            for process in machine.processes:
                process.wait()
            netns.remove(machine.name)
        self._ip.close()
        self.store.close()
        self._server.kill()
        self._server.wait()


def tasks(*prompts: str, backend: str = "one") -> str:
    return "".join(json.dumps({"backend": backend, "prompt": prompt}) + "\n" for prompt in prompts)


def quick(count: int, name: str = "t") -> str:
    return tasks(*(f"{name}{n} {0.01 + n % 5 * 0.01}" for n in range(count)))


def statuses(ended: harness.Completed) -> list[str]:
    return [result["status"] for result in json.loads(ended.stdout)["results"]]
