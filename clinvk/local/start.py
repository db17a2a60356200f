"""Local mode: a private server and its workers, for the length of one command.

The server listens on a unix socket in a directory that only this user can enter, and on no port.
`clinvk.local.supervisor` runs server and workers, and takes them down when this process ends,
however it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from clinvk.config import paths
from clinvk.core.errors import BrokerError, ConfigError
from clinvk.core.worker_config import BROKER_URL, WorkerConfig
from clinvk.local import server
from clinvk.privacy import seclude

SLOTS_PER_WORKER = 4
SOCKET_PATH_BYTES = 100
"""Unix socket paths end at 104 (macOS) to 108 bytes."""
START_SECONDS = 30.0
POLL_SECONDS = 0.005


class LocalFleet:
    """A private server and its workers; until `order` only their supervisor, which loads."""

    def __init__(self) -> None:
        self._directory = _make_directory()
        self.server_program = ""
        self._is_ordered = False
        self._reports = b""
        self._supervisor = subprocess.Popen(
            [sys.executable, "-m", "clinvk.local.supervisor", str(self._directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._supervisor.stdout is not None
        os.set_blocking(self._supervisor.stdout.fileno(), False)

    def order(self, program: str, config: WorkerConfig, queues: Sequence[str], slots: int) -> None:
        """Have the server and the workers started, `slots` tasks at once."""
        shares = divide(slots, os.cpu_count() or 1)
        names = [f"local-{n}" for n in range(1, len(shares) + 1)] if len(shares) > 1 else ["local"]
        self._is_ordered = True
        self.server_program = program
        self._tell(
            server=server.argv(program, str(self._directory)),
            workers=[
                ["--queues", ",".join(queues), "--concurrency", str(share), "--name", name]
                for name, share in zip(names, shares, strict=True)
            ],
            config=_private(config).dump(),
        )

    def cancel(self, run: str, reason: str) -> None:
        """Cancel a run. The supervisor does it, over a connection that it has had from the start.

        So it works even where the server's socket was removed, as cleaners of /tmp do.
        """
        self._tell(cancel=run, reason=reason)

    def _tell(self, **order: Any) -> None:
        """Write a line to the supervisor."""
        assert self._supervisor.stdin is not None
        rest = json.dumps(order).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # it has ended, which `check` will say
            while rest:
                rest = rest[self._supervisor.stdin.write(rest) :]

    def end(self, *, at_once: bool = False) -> None:
        """Have everything taken down, and wait for that unless `at_once`."""
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        if not self._is_ordered:
            # It has started nothing, and shall not begin to take things down: what it writes for
            # that, as it is killed, would stay.
            self._supervisor.kill()
        self._supervisor.stdin.close()
        if not (self._is_ordered and at_once):
            self._supervisor.wait()
            # Already gone, unless the supervisor itself was killed.
            shutil.rmtree(self._directory, ignore_errors=True)
        self._supervisor.stdout.close()

    @property
    def broker_url(self) -> str:
        """The URL of the private server."""
        return server.broker_url(str(self._directory))

    def wait_for_server(self) -> None:
        """Wait until the server answers on its socket.

        Raises:
            BrokerError: it ended, or did not come up in time.
        """
        seclude()  # while there is nothing else to do, and before any task runs
        give_up_at = time.monotonic() + START_SECONDS
        while not server.is_up(str(self._directory)):
            self.check()
            if time.monotonic() > give_up_at:
                raise BrokerError(f"the private server did not start within {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Fail if the server or a worker cannot be kept up.

        Raises:
            BrokerError: with the last line in the log of what ended.
        """
        code = self._supervisor.poll()
        reports = self._read_reports()
        if code is None and "server" not in {report["exited"] for report in reports}:
            return
        if code is not None and code < 0:
            raise BrokerError(f"local mode ended: its supervisor was killed by signal {-code}")
        if not reports:
            raise BrokerError(f"local mode ended: its supervisor ended with exit code {code}")
        last = reports[-1]
        said = last["said"] or f"with exit code {last['returncode']}"
        raise BrokerError(f"the local {last['exited']} ended: {said}")

    def _read_reports(self) -> list[dict[str, Any]]:
        assert self._supervisor.stdout is not None
        self._reports += self._supervisor.stdout.read() or b""
        return [json.loads(line) for line in self._reports.splitlines()]


_expected: LocalFleet | None = None


@contextmanager
def expected(broker: str | None, config: str | None) -> Iterator[None]:
    """Start a supervisor for a `start` inside, unless a broker seems to be configured.

    It loads what a worker needs while the command reads its files. `broker` and `config` are what
    the command line says, or None. A wrong guess costs no more than that: a supervisor that is not
    used is ended.
    """
    global _expected
    if not _names_broker(broker, config):
        with contextlib.suppress(OSError):  # `start` will report it
            _expected = LocalFleet()
    try:
        yield
    finally:
        if _expected is not None:
            _expected.end()
            _expected = None


def _names_broker(broker: str | None, config: str | None) -> bool:
    """Whether a broker seems to be configured, without the time that reading YAML takes."""
    if broker or os.environ.get(BROKER_URL):
        return True
    try:
        return b"broker" in paths.locate(config).read_bytes()
    except (OSError, ConfigError):  # none, or one that cannot be read, which is reported later
        return False


@contextmanager
def start(
    config: WorkerConfig, queues: Sequence[str], slots: int, program: str | None
) -> Iterator[LocalFleet]:
    """Start the private server and workers with `slots` tasks at once; take them down after.

    `program` is the configured server program. Returns as soon as server and workers are being
    started; they come up while the caller goes on.

    Raises:
        BrokerError: there is no server program for this platform.
    """
    global _expected
    found = server.find_server(program)
    fleet, _expected = _expected or LocalFleet(), None
    leave_at_once = False
    try:
        fleet.order(found, config, queues, slots)
        yield fleet
    except (KeyboardInterrupt, SystemExit):
        leave_at_once = True  # the supervisor goes on without us
        raise
    finally:
        fleet.end(at_once=leave_at_once)


def _private(config: WorkerConfig) -> WorkerConfig:
    """Return what the workers of a private fleet are told: it looks after them and the server."""
    return replace(config, reports_versions=False, has_supervisor=False, checks_server=False)


def divide(slots: int, cores: int) -> list[int]:
    """Divide slots among workers.

    One worker can run many CLIs. But if those end after milliseconds, the threads of one Python
    process compete for its interpreter, and two workers are faster by a third.
    """
    workers = min(cores, max(1, slots // SLOTS_PER_WORKER))
    return [slots // workers + (n < slots % workers) for n in range(workers)]


def _make_directory() -> Path:
    directory = tempfile.mkdtemp(prefix=server.DIRECTORY_PREFIX)
    if len(os.fsencode(directory)) + len(f"/{server.SOCKET_NAME}") > SOCKET_PATH_BYTES:
        Path(directory).rmdir()
        directory = tempfile.mkdtemp(prefix=server.DIRECTORY_PREFIX, dir="/tmp")
    return Path(directory)
