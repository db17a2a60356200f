"""The standing connection: it stands until an end of it closes, and can be made anew for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from clinvk.store.store import Store
from tests import harness
from workers.liveness.connection import LivenessConnection

ATTEMPTS = 300
"""As many as a server that is down for minutes costs; a pool of redis-py ends at 100."""


@pytest.fixture
def connection(broker_url: str) -> Iterator[LivenessConnection]:
    connection = LivenessConnection(broker_url)
    yield connection
    connection.close()


def test_it_is_known_to_the_server_by_its_name(
    connection: LivenessConnection, broker_url: str
) -> None:
    store = Store.connect(broker_url)
    assert not connection.stands
    run_id, _, client = connection.open().partition(":")
    server = store.server()
    assert run_id == server.run_id
    assert server.clients is not None
    assert int(client) in server.clients
    assert connection.stands
    connection.close()
    harness.wait_until(lambda: int(client) not in (store.server().clients or ()), "the close")
    assert not connection.stands


def test_a_server_that_closes_it_is_noticed(
    connection: LivenessConnection, broker_url: str
) -> None:
    store = Store.connect(broker_url)
    _, _, client = connection.open().partition(":")
    store.redis.client_kill_filter(_id=client)
    harness.wait_until(lambda: not connection.stands, "the end of the connection")
    assert connection.open().partition(":")[2] != client


def test_a_server_that_is_down_for_long_can_be_reached_again(
    tmp_path: Path, broker_url: str
) -> None:
    away = LivenessConnection(f"redis+socket://{tmp_path / 'nobody.sock'}")
    for _ in range(ATTEMPTS):
        with pytest.raises(redis.ConnectionError, match="No such file"):
            away.open()
    there = LivenessConnection(broker_url)
    for _ in range(ATTEMPTS):
        there.open()
    assert there.stands
    there.close()
