"""Servers on which clinvk would not work, and says so before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import harness
from tests.server import running_server
from tests.system.servers.install import SUPPORTED, TOO_OLD, Server

TASK = '{"tasks": [{"backend": "echo", "prompt": "x"}]}'


@pytest.mark.parametrize("command", [("parallel", "--detach"), ("runs",), ("workers",)])
def test_a_server_that_is_too_old_is_refused(tmp_path: Path, command: tuple[str, ...]) -> None:
    with running_server(TOO_OLD.checked(), tmp_path) as url:
        ended = harness.clinvk(*command, "--broker", url, stdin=TASK)
    assert (ended.status, ended.stdout) == (4, "")
    assert "the broker is Redis 6.2.5: clinvk needs Redis 7.0 or newer, or Valkey" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_cluster_is_refused(tmp_path: Path) -> None:
    is_cluster = ("--cluster-enabled", "yes", "--cluster-port", "0")
    with running_server(SUPPORTED[0].checked(), tmp_path, *is_cluster) as url:
        ended = harness.clinvk("runs", "--broker", url)
    assert (ended.status, ended.stdout) == (4, "")
    assert "the broker is a Redis Cluster" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("server", SUPPORTED, ids=lambda server: server.name)
def test_the_servers_of_the_matrix_are_there(server: Server) -> None:
    server.checked()
