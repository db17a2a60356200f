"""A task that hunts for a secret in /proc, and fleets that have one: what it finds, it prints.

Shared by the tests of both tiers: tests/local hunts in local mode, tests/system on fleets, and as
an ordinary user as well.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from clinvk.core.worker_config import BROKER_URL, WORKER_CONFIG, WorkerConfig
from clinvk.store.store import Store
from tests import harness

HUNT = r"""
import os, sys
secret = sys.stdin.read().strip()[::-1].encode()  # so that it is in no memory but ours
found = []
if secret in b"".join(k + v for k, v in os.environb.items()):
    found.append("own environment")
looked = 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) == os.getpid():
        continue
    for name in ("environ", "cmdline"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                content = file.read()
        except OSError:
            continue
        looked += bool(content)
        if secret in content:
            found.append(f"{name} of {pid}: {open(f'/proc/{pid}/comm').read().strip()}")
pid = os.getppid()
while os.geteuid() and pid > 1:  # root may read any memory
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines())
    try:
        with open(f"/proc/{pid}/mem", "rb"):
            if "python" in status["Name"] and int(sys.argv[1]) == os.geteuid():
                found.append(f"memory of {pid}: {status['Name']}")
    except PermissionError:
        pass
    pid = int(status["PPid"])
    if pid == int(sys.argv[2]):
        break  # the tests' own
assert looked > 2
print(f"found: {', '.join(found) or 'nothing'}", end="")
"""


@dataclass
class Hunt:
    """A secret, and the tasks that look for it, as a user of this machine."""

    folder: Path
    user: int
    secret: str = field(default_factory=lambda: f"s3cret{secrets.token_hex(8)}")

    def environment(self) -> dict[str, str]:
        """Return an environment in which a key of another CLI is the secret."""
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        return kept | {
            "PYTHONPATH": str(harness.ROOT),
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "ANTHROPIC_API_KEY": self.secret,
        }

    @property
    def as_user(self) -> Sequence[str]:
        """Return what a command begins with that the user runs.

        The user may read all files, as this Python and checkout may be root's own.
        """
        if self.user == os.geteuid():
            return ()
        options = (f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups")
        reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
        return ("setpriv", *options, *reads, "--")

    @property
    def backends(self) -> dict[str, object]:
        """Return the backends: one that hunts, and one whose own key is the secret."""
        command = [sys.executable, "-c", HUNT, str(self.user), str(os.getpid())]
        return {
            "hunt": {"command": command},
            "other": {"command": ["true"], "env": {"OTHER_KEY": self.secret}},
        }

    def config(self) -> str:
        """Write the configuration file; returns its path."""
        path = self.folder / "config.json"
        path.write_text(json.dumps({"backends": self.backends}))
        path.chmod(0o644)
        return str(path)

    def worker_config(self) -> str:
        """Return what a worker is told where nobody reads a configuration file."""
        return WorkerConfig(backends=self.backends).dump()  # type: ignore[arg-type]

    def start(self, argv: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*self.as_user, *argv],
                env=self.environment() | environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def submit(self, *arguments: str, **environment: str) -> str:
        """Run one task that hunts; returns its output, or what went wrong."""
        tasks = [{"backend": "hunt", "prompt": self.secret[::-1]}]
        argv = [
            *self.as_user,
            *harness.CLINVK,
            "parallel",
            "--json",
            "-q",
            "--config",
            self.config(),
            *arguments,
        ]
        done = subprocess.run(
            argv,
            input=json.dumps(tasks),
            capture_output=True,
            text=True,
            env=self.environment() | environment,
            cwd=self.folder,
            timeout=harness.TIMEOUT_SECONDS * 2,
            check=False,
        )
        assert done.stdout, done.stderr
        (result,) = json.loads(done.stdout)["results"]
        return str(result["output"] or result["error"])


@contextmanager
def hunt(user: int) -> Iterator[Hunt]:
    """Give a hunt in a folder that its user can write."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name:
        os.chown(name, user, -1)
        yield Hunt(Path(name), user)


@contextmanager
def broker(secret: str) -> Iterator[str]:
    """Run a server whose password is the secret; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="s", dir="/tmp")
    server = subprocess.Popen(
        [harness.server_program(), "-"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert server.stdin is not None
    server.stdin.write(f'bind 127.0.0.1\nport {port}\nsave ""\nrequirepass {secret}\n'.encode())
    server.stdin.close()
    url = f"redis://:{secret}@127.0.0.1:{port}/0"
    store = Store.connect(url)
    try:
        harness.wait_until(lambda: harness.answers(store.redis), "the server to answer")
        yield url
    finally:
        store.close()
        server.kill()
        server.wait()
        shutil.rmtree(folder)


STARTED_BY = ("clinvk worker", "clinvk worker --broker", "python -m workers", "celery")


def on_a_fleet(hunted: Hunt, how: str) -> list[str]:
    """Run the task on a worker that is started in this way, twice; returns what it found.

    The client has the broker from a variable, and then from its command line.
    """
    with broker(hunted.secret) as url:
        variables = {BROKER_URL: url}
        argv = [*harness.CLINVK, "worker", "--config", hunted.config(), "--queues", "hunt"]
        if how == "clinvk worker --broker":
            argv, variables = [*argv, "--broker", url], {}
        elif how == "python -m workers":
            argv = [*harness.PYTHON, "-m", "workers", "--queues", "clinvk.hunt"]
            variables[WORKER_CONFIG] = hunted.worker_config()
        elif how == "celery":
            argv = [*harness.PYTHON, "-m", "celery", "-A", "workers.app", "worker"]
            argv += ["-Q", "clinvk.hunt", "-c", "2"]
            variables[WORKER_CONFIG] = hunted.worker_config()
        worker = hunted.start(argv, **variables)
        store = Store.connect(url)
        try:
            harness.wait_until(lambda: store.workers() or worker.poll(), "the worker")
            assert worker.poll() is None, (hunted.folder / "log").read_text()
            by_variable = hunted.submit(**{BROKER_URL: url})
            return [by_variable, hunted.submit("--broker", url)]
        finally:
            worker.terminate()
            worker.wait()
            store.close()
