"""The store's connections to a server."""

from __future__ import annotations

import pytest

from clinvk.store import store as store_module
from clinvk.store.store import Store


def test_a_connection_that_was_closed_while_nothing_was_asked_is_made_again(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "REST_SECONDS", 0.0)
    store = Store.connect(broker_url, answer_seconds=5.0)  # tries nothing again
    assert store.admit().dispatched == []
    ((connection, _),) = store._idle
    store.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert store.admit().dispatched == []
    assert [idle for idle, _ in store._idle] == [connection]


def test_no_more_connections_are_kept_than_are_of_use(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MOST_IDLE", 2)
    store = Store.connect(broker_url)
    store.admit()
    open_now = [store._connection() for _ in range(4)]
    for connection in open_now:
        connection.connect()
        store._put_back(connection)
    assert [connection._sock is None for connection in open_now] == [False, False, True, True]
    store.close()
    assert [connection._sock is None for connection in open_now] == [True] * 4
