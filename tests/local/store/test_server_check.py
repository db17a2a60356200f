"""Brokers that are no Redis of their own: a proxy, a user without rights."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests import harness


@pytest.fixture
def proxy() -> Iterator[str]:
    """Something that speaks the protocol and knows no command but PING, as some proxies do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        closing = threading.Event()

        def serve() -> None:
            while not closing.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(5)
                    while data := connection.recv(1 << 16):
                        for _ in range(data.count(b"*")):
                            connection.sendall(b"-ERR unsupported command\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0?protocol=2"
        closing.set()
        thread.join()


def test_a_proxy_is_told_from_redis(proxy: str) -> None:
    ended = harness.clinvk("runs", "--broker", proxy)
    assert (ended.status, ended.stdout) == (4, "")
    assert "does not answer INFO" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["workers", "parallel"])
def test_a_broker_without_an_append_only_file_is_a_warning(broker_url: str, command: str) -> None:
    arguments = ["--detach", "--wait-for-workers"] if command == "parallel" else []
    ended = harness.clinvk(
        command,
        *arguments,
        "--broker",
        broker_url,
        stdin='{"tasks": [{"backend": "echo", "prompt": "x"}]}',
    )
    assert ended.status == 0
    assert "warning: the broker keeps no append-only file" in ended.stderr
