"""A real server for each test process, as fixtures that a tier's conftest imports."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests import harness


@contextmanager
def running_server(program: str | Path, directory: Path, *options: str) -> Iterator[str]:
    """Run a server on a socket in a directory; its broker URL."""
    socket = directory / "s.sock"
    process = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", str(socket), "--save", "", *options],
        cwd=directory,
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(unix_socket_path=str(socket)) as client:
            harness.wait_until(lambda: harness.answers(client), "the test server to answer")
        yield f"redis+socket://{socket}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server of this test process's own; its broker URL."""
    with running_server(harness.server_program(), tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def broker_url(server: str) -> Iterator[str]:
    """An empty broker; at the end of the test each of our keys must have a lifetime."""
    with redis.Redis(unix_socket_path=server.removeprefix("redis+socket://")) as client:
        client.flushall()
        yield server
        assert harness.keys_without_lifetime(client) == []
