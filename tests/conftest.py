"""What all tests share: a real server, a clean home, and rules that every test must keep."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fakeredis
import pytest
import redis

from clinvk.local.start import find_server
from clinvk.store.store import Store
from tests import harness


@pytest.fixture(autouse=True)
def _clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No test sees, or writes to, the configuration of whoever runs it."""
    for name in harness.clinvk_variables():
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server of this test process's own; its broker URL."""
    directory = tmp_path_factory.mktemp("server")
    socket = directory / "s.sock"
    process = subprocess.Popen(
        [find_server(None), "--port", "0", "--unixsocket", str(socket), "--save", ""],
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


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A TMPDIR with a short path, as sockets need; no process and no file in it may be left."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as name:
        directory = Path(name).resolve()
        monkeypatch.setenv("TMPDIR", str(directory))
        monkeypatch.setattr("tempfile.tempdir", str(directory))
        yield directory
        harness.wait_until(
            lambda: not harness.of_directory(str(directory)), "all processes of the test to end"
        )
        assert [path.name for path in directory.iterdir()] == []


@pytest.fixture(params=["server", "fakeredis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store over a real server, and over fakeredis: the scripts do the same on both."""
    if request.param == "server":
        yield Store.connect(request.getfixturevalue("broker_url"))
    else:
        fake = Store(fakeredis.FakeRedis())
        yield fake
        assert harness.keys_without_lifetime(fake.redis) == []
