"""A real server for each test process, as fixtures that a tier's conftest imports."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
import redis

from tests import harness


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server of this test process's own; its broker URL."""
    directory = tmp_path_factory.mktemp("server")
    socket = directory / "s.sock"
    process = subprocess.Popen(
        [harness.server_program(), "--port", "0", "--unixsocket", str(socket), "--save", ""],
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


@pytest.fixture
def broker_url(server: str) -> Iterator[str]:
    """An empty broker; at the end of the test each of our keys must have a lifetime."""
    with redis.Redis(unix_socket_path=server.removeprefix("redis+socket://")) as client:
        client.flushall()
        yield server
        assert harness.keys_without_lifetime(client) == []
