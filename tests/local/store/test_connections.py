"""The store's connections to a server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from clinvk.store import connection as connection_module
from clinvk.store.scripts import operations
from clinvk.store.store import Store
from tests import harness

FOR_EVER_MS = 60_000


@pytest.fixture
def others(redis_client: Any) -> Callable[[], list[str]]:
    """The connections that were made since, by what the server calls them."""
    redis_client.script_load(operations()["admit"].text)  # or it is loaded over another one

    def ids() -> set[str]:
        return {client["id"] for client in redis_client.client_list()}

    before = ids()
    return lambda: sorted(ids() - before)


def test_a_connection_that_was_closed_while_nothing_was_asked_is_made_again(
    broker_url: str,
    redis_client: Any,
    others: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "REST_SECONDS", 0.0)
    store = Store.connect(broker_url, answer_seconds=5.0)  # tries nothing again
    assert store.admit().dispatched == []
    first = others()
    redis_client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert store.admit().dispatched == []
    assert len(others()) == 1
    assert others() != first
    store.close()


def test_no_more_connections_are_kept_than_are_of_use(
    broker_url: str,
    redis_client: Any,
    others: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "MAX_IDLE", 2)
    store = Store.connect(broker_url)
    redis_client.execute_command("CLIENT", "PAUSE", FOR_EVER_MS, "WRITE")
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(store.admit) for _ in range(4)]
        harness.wait_until(lambda: len(others()) >= 4, "a connection for each question")
        redis_client.execute_command("CLIENT", "UNPAUSE")
        assert [answer.result().dispatched for answer in asked] == [[]] * 4
    harness.wait_until(lambda: len(others()) == 2, "the connections that are not kept to close")
    store.close()
    harness.wait_until(lambda: not others(), "all connections to close")
