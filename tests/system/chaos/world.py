"""The world that chaos strikes: a server with an append-only file, machines, workers, a client.

Everything lives in network namespaces of its own, and ends with the process that made it. Needs
root on Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis
from pyroute2 import IPRoute, NetNS, netns
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests import harness, limited_claude, quick_limits
from tests.meter import Allowance
from tests.system.chaos import fakecli
from workers.execution.sandbox.private import remove_stale

CLONE_NEWNET = 0x40000000
ROOT_QDISC = 0xFFFFFFFF
PORT = 6379
MARK = "CLINVK_TASK"
REPOSITORY = harness.ROOT
SETTINGS = REPOSITORY / "deploy" / "redis.conf"
FAKE_CLI = Path(__file__).with_name("fakecli.py")
ALLOWANCE = Allowance(per_minute=80, burst=2, per_window=12, window_seconds=12)
"""What the provider of the tasks with limits gives to the whole fleet."""
BUDGETS = {"day": 1000, "queues": {"claude": {"day": 900}}, "estimate_usd": 0.01}
BUDGETS |= {"estimate_tokens": 100}
"""What nothing comes to: that all is given back and counted is what chaos is to disturb."""
ENTER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: ends with whoever started it
with open(sys.argv[1]) as namespace:
    ctypes.CDLL(None).setns(namespace.fileno(), 0)
os.execv(sys.argv[2], sys.argv[2:])
"""


def isolate() -> None:
    """Move this process into a network of its own, with nothing but loopback."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise SystemExit("chaos needs root on Linux, for network namespaces")
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")


def started(argv: list[str], space: str, env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a network namespace; it dies with us."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", ENTER, space, *argv],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )


@dataclass
class Server:
    """A Valkey on TCP that keeps what it answered, however it ends."""

    folder: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    outages: list[list[int]] = field(default_factory=list)

    def start(self) -> None:
        argv = [harness.server_program(), str(SETTINGS), "--port", str(PORT), "--bind", "0.0.0.0"]
        argv += ["--protected-mode", "no", "--dir", str(self.folder), "--appendfsync", "always"]
        space, log = "/proc/self/ns/net", self.folder / "server.log"
        self.process = started(argv, space, self.env, log)
        harness.wait_until(lambda: harness.answers(self.client()), "the server to answer")
        if self.outages:
            self.outages[-1][1] = time.monotonic_ns()

    def stop(self, number: int) -> None:
        if self.process is None:
            return
        self.outages.append([time.monotonic_ns(), time.monotonic_ns()])
        self.process.send_signal(number)
        self.process.wait()
        self.process = None

    @staticmethod
    def client() -> redis.Redis:
        return redis.Redis(port=PORT, socket_timeout=2, retry=Retry(NoBackoff(), 0))


@dataclass
class Unit:
    """A machine and the worker on it, started again whenever it has ended.

    Attributes:
        start_at: when to start the worker, where there is none.
        is_leaving: whether its worker was told to stop.
        cuts: from when to when the machine's link was cut, in nanoseconds.
    """

    name: str
    space: str
    address: str
    gateway: str
    link: int
    inner_link: int
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    is_leaving: bool = False
    cuts: list[list[int]] = field(default_factory=list)

    @property
    def is_up(self) -> bool:
        """Whether its worker has taken over from the command that started it."""
        if self.process is None or self.process.poll() is not None:
            return False
        return b"workers" in _command(self.process.pid)

    @property
    def worker(self) -> int | None:
        """The process of its worker, a child of the one that we started, once it takes signals."""
        if not self.is_up or self.process is None:
            return None
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return next((int(child) for child in children if _catches_term(int(child))), None)

    @property
    def owner(self) -> str:
        """What our CLI calls its worker process; empty until that takes signals."""
        return f"{self.name}@{socket.gethostname()}/{self.worker}" if self.worker else ""

    @property
    def is_cut(self) -> bool:
        return bool(self.cuts) and self.cuts[-1][1] == 0

    def leave(self) -> None:
        """Tell its worker to stop, as a deploy does."""
        if self.owner and self.process is not None:
            self.is_leaving = True
            self.process.send_signal(signal.SIGTERM)

    def processes(self) -> list[int]:
        """Everything that runs on this machine."""
        wanted = Path(self.space).stat().st_ino
        return [pid for pid in pids() if _namespace(pid) == wanted]


def _catches_term(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


def _command(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return []


def pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _namespace(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:  # it has ended, if only just now
        return 0


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class World:
    """All of it. Machines are numbered from 0; `crashes` lists workers that ended by themselves."""

    def __init__(self, folder: Path, machines: int, slots: int) -> None:
        self.folder = folder
        self.log = folder / "tasks.log"
        self.log.touch()
        for name in ("locks", "home", "server"):
            (folder / name).mkdir()
        self.slots = slots
        self.config = folder / "config.json"
        command = [sys.executable, "-I", "-S", str(FAKE_CLI), str(folder)]
        limits = {"output_bytes": 1 << 20, "spill_bytes": 20 << 20}
        backends = {"fake": {"command": command}}
        self.config.write_text(
            json.dumps({"backends": backends, "limits": limits, "budgets": BUDGETS})
        )
        bin_directory = limited_claude.install(folder, ALLOWANCE, fakecli.__name__, "claude")
        self._programs = (str(FAKE_CLI).encode(), f"{bin_directory}/claude".encode())
        self._variables = {
            "PATH": f"{bin_directory}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": quick_limits.python_path(folder),
        }
        self.server = Server(folder / "server", self._env("127.0.0.1"))
        self.crashes: list[str] = []
        self._ending: list[subprocess.Popen[bytes]] = []
        self._ip = IPRoute()
        self.units: list[Unit] = []
        for number in range(machines):
            self.units.append(self._machine(number))

    def _env(self, host: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CLINVK_")}
        return {
            **kept,
            "HOME": str(self.folder / "home"),
            **self._variables,
            "CLINVK_BROKER_URL": f"redis://{host}:{PORT}/0",
            "CLINVK_CONFIG": str(self.config),
        }

    def _machine(self, number: int) -> Unit:
        name = f"chaos{os.getpid()}n{number}"
        outside, inside, network = f"out{number}", f"in{number}", f"10.77.{number}"
        netns.create(name)
        self._ip.link(
            "add", ifname=outside, kind="veth", peer={"ifname": inside, "net_ns_fd": name}
        )
        link = self._ip.link_lookup(ifname=outside)[0]
        self._ip.addr("add", index=link, address=f"{network}.1", prefixlen=30)
        self._ip.link("set", index=link, state="up")
        with NetNS(name) as there:
            inner_link = there.link_lookup(ifname=inside)[0]
            there.addr("add", index=inner_link, address=f"{network}.2", prefixlen=30)
            there.link("set", index=inner_link, state="up")
            there.link("set", index=there.link_lookup(ifname="lo")[0], state="up")
        space = f"/var/run/netns/{name}"
        return Unit(f"w{number}", space, f"{network}.2", f"{network}.1", link, inner_link)

    # Workers.

    def supervise(self) -> None:
        """Start each worker that has ended, when its time has come."""
        self._ending = [process for process in self._ending if process.poll() is None]
        for unit in self.units:
            if unit.process is not None and (status := unit.process.poll()) is not None:
                # `clinvk worker` ends with 4 where no broker answers it; a worker never does.
                if status != (0 if unit.is_leaving else 4):
                    self.crashes.append(f"{unit.name} (pid {unit.process.pid}) ended with {status}")
                self.expect_restart(unit, 2.0)
            if unit.process is None and time.monotonic() >= unit.start_at:
                argv = [*harness.CLINVK, "worker", "--queues", "fake,claude", "--name", unit.name]
                argv += ["--concurrency", str(self.slots)]
                env, log = self._env(unit.gateway), self.folder / f"{unit.name}.log"
                unit.process = started(argv, unit.space, env, log)

    @staticmethod
    def expect_restart(unit: Unit, seconds: float) -> None:
        unit.process, unit.start_at = None, time.monotonic() + seconds
        unit.is_leaving = False

    def kill_worker(self, unit: Unit) -> None:
        """Kill the worker process, and nothing else; its supervisor ends by itself."""
        assert unit.process is not None
        kill(unit.worker or unit.process.pid)
        self._ending.append(unit.process)

    @staticmethod
    def kill_unit(unit: Unit) -> None:
        """Kill all that runs on a machine, as the end of a container does."""
        assert unit.process is not None
        while left := unit.processes():
            for each in left:
                kill(each)
            unit.process.poll()
        unit.process.wait()

    # Links.

    def cut(self, unit: Unit, way: str) -> None:
        """Cut a machine's link: `both` ways, or drop only what goes `in` or `out`."""
        unit.cuts.append([time.monotonic_ns(), 0])
        nothing = {"kind": "tbf", "rate": 8, "burst": 1, "limit": 1, "parent": ROOT_QDISC}
        if way == "both":
            self._ip.link("set", index=unit.link, state="down")
        elif way == "in":
            self._ip.tc("add", index=unit.link, **nothing)
        else:
            with NetNS(Path(unit.space).name) as there:
                there.tc("add", index=unit.inner_link, **nothing)

    def mend(self, unit: Unit, way: str) -> None:
        """Undo `cut`."""
        if way == "both":
            self._ip.link("set", index=unit.link, state="up")
        elif way == "in":
            self._ip.tc("del", index=unit.link, parent=ROOT_QDISC)
        else:
            with NetNS(Path(unit.space).name) as there:
                there.tc("del", index=unit.inner_link, parent=ROOT_QDISC)
        unit.cuts[-1][1] = time.monotonic_ns()

    # Clients.

    def clinvk(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*harness.CLINVK, *arguments],
            env=self._env("127.0.0.1"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def client(self, run: str, output: Path) -> subprocess.Popen[bytes]:
        """Attach to a run; its document goes to a file."""
        argv = [*harness.CLINVK, "attach", run, "--json", "--quiet"]
        with output.open("wb") as stream, (self.folder / "client.log").open("ab") as errors:
            return subprocess.Popen(
                argv,
                env=self._env("127.0.0.1"),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=errors,
            )

    # The end.

    def marked(self) -> list[str]:
        """Processes that belong to a task: by the mark, or because they are our CLI."""
        return [about for pid in pids() if pid != os.getpid() and (about := self._mark_of(pid))]

    def _mark_of(self, pid: int) -> str:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            env = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return ""
        ours = str(self.folder).encode()
        is_marked = f"{MARK}=".encode() in env and ours in env
        is_cli = any(program in command for program in self._programs) and ours in command
        return f"{pid} {command.replace(bytes(1), b' ')!r}" if is_marked or is_cli else ""

    def stop_workers(self) -> list[str]:
        """SIGTERM to all; returns what is wrong with how they ended."""
        problems = []
        for unit in self.units:
            if unit.process is not None:
                unit.process.send_signal(signal.SIGTERM)
        for unit in self.units:
            if unit.process is None:
                continue
            try:
                if status := unit.process.wait(30):
                    problems.append(f"{unit.name} answered SIGTERM with {status}")
            except subprocess.TimeoutExpired:
                problems.append(f"{unit.name} did not end in 30 s after SIGTERM")
        give_up_at = time.monotonic() + 10
        while (left := self.in_machines()) and time.monotonic() < give_up_at:
            time.sleep(0.05)
        return problems + [f"process {about} is left" for about in left]

    def in_machines(self) -> list[str]:
        return [f"{pid} on {unit.name}" for unit in self.units for pid in unit.processes()]

    def close(self) -> None:
        """Leave nothing."""
        for unit in self.units:
            for pid in unit.processes():
                kill(pid)
            if unit.process is not None:
                unit.process.wait()
            netns.remove(Path(unit.space).name)
        self.server.stop(signal.SIGKILL)
        remove_stale()  # what a machine left that was killed whole, as its next worker would
        self._ip.close()
