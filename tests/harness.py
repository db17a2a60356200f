"""Helpers that tests share: conditions to wait for, processes to find, commands to run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from clinvk.local.server import find_server
from tests import documents

TIMEOUT_SECONDS = 60.0
ROOT = Path(__file__).parent.parent
"""The repository."""
EXAMPLES = ROOT / "examples"
TRANSCRIPTS = ROOT / "tests" / "transcripts"
PYTHON = [sys.executable]
CLINVK = [*PYTHON, "-m", "clinvk"]
TEST_SERVER = "TEST_SERVER"
"""The variable with the server program under test, for processes that tests start."""


def free_port() -> int:
    """Return a port of loopback on which nobody listens just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until(condition: Callable[[], Any], what: str, seconds: float = TIMEOUT_SECONDS) -> Any:
    """Wait for a condition and return its value; fail, naming it, when it does not come."""
    give_up_at = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > give_up_at:
            raise AssertionError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.01)
    return value


def clinvk_variables() -> list[str]:
    """The environment variables that would change what clinvk does."""
    return [
        name for name in os.environ if name.startswith("CLINVK_") and name != "CLINVK_CLI_CACHE"
    ]


def keys_without_lifetime(client: Any) -> list[str]:
    """Our keys that would stay for ever."""
    return [key.decode() for key in client.scan_iter("clinvk:*") if client.pttl(key) == -1]


def server_under_test() -> str | None:
    """The server program of `pytest --server`; None where clinvk is to choose its own."""
    return os.environ.get(TEST_SERVER)


def server_program() -> str:
    """The server program that tests start."""
    return find_server(server_under_test())


def answers(client: redis.Redis) -> bool:
    """Whether a server answers."""
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def running(pid: int) -> bool:
    """Whether a process exists and is not just waiting to be reaped."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def of_directory(directory: str) -> list[psutil.Process]:
    """All other processes that have this directory as TMPDIR or in their command line.

    (A server writes its title over its environment.)
    """
    found = []
    for process in psutil.process_iter():
        try:
            named = process.environ().get("TMPDIR") == directory or any(
                directory in argument for argument in process.cmdline()
            )
            if named and running(process.pid) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


@dataclass(frozen=True)
class Completed:
    """What a command left: its exit status and its two streams."""

    status: int
    stdout: str
    stderr: str


def clinvk(
    *arguments: str,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    command: Sequence[str] = CLINVK,
) -> Completed:
    """Run clinvk as a user would, as a process of its own."""
    done = subprocess.run(
        [*command, *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env={**os.environ, **(env or {})},
        timeout=TIMEOUT_SECONDS * 2,
        check=False,
    )
    sys.stderr.write(done.stderr)  # which is shown if the test fails
    documents.check(arguments, done.stdout)
    return Completed(done.returncode, done.stdout, done.stderr)
