"""Fixtures of the users that `clinvk acl` makes: their server, and a worker."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from clinvk.core.worker_config import BROKER_URL
from clinvk.store.keys import key
from tests import harness
from tests.system.broker.users import Server, users, version_of_server


@pytest.fixture(scope="module")
def acl_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("acl")
    lines = ["user default off", "user admin on >admin ~* &* +@all", *users(version_of_server())]
    (directory / "users.acl").write_text("\n".join(lines) + "\n")
    port = harness.free_port()
    process = subprocess.Popen(
        [
            *(harness.server_program(), "--port", str(port), "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
            *("--aclfile", str(directory / "users.acl")),
        ],
        cwd=directory,
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(port=port, username="admin", password="admin") as admin:
            harness.wait_until(
                lambda: harness.answers(admin) or process.poll() is not None, "the server"
            )
            assert process.poll() is None, "it refused its users"
            yield Server(port, admin)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def acl_worker(acl_server: Server, tmp_path: Path) -> Iterator[None]:
    """A worker of this server, as the user for workers; nobody is refused anything by the end."""
    acl_server.admin.flushall()
    acl_server.admin.acl_log_reset()
    log = tmp_path / "worker.log"
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            [*harness.CLINVK, "worker", "--queues", "echo", "--concurrency", "2"],
            env={**os.environ, BROKER_URL: acl_server.url("worker")},
            stdout=stream,
            stderr=stream,
        ) as process,
    ):
        try:
            harness.wait_until(
                lambda: acl_server.admin.zcard(key("workers")) or process.poll() is not None,
                "the worker to be announced",
            )
            yield
        finally:
            process.terminate()
    assert process.returncode == 0, log.read_text()
    assert "NOPERM" not in log.read_text()
    assert acl_server.denials() == []
    assert harness.keys_without_lifetime(acl_server.admin) == []
