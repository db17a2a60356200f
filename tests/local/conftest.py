"""The fixtures of tests that use a real server and real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from clinvk.store.connection import redis_url
from clinvk.store.store import Store
from tests import harness
from tests.server import broker_url, server

__all__ = ["broker_url", "server"]


@pytest.fixture(autouse=True)
def _local_mode_on_the_server_under_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local mode starts the server of `pytest --server`, where that is given."""
    program = harness.server_under_test()
    if program is not None:
        monkeypatch.setenv("CLINVK_LOCAL_SERVER", program)


@pytest.fixture
def redis_client(broker_url: str) -> Iterator[redis.Redis]:
    """A client of the empty server."""
    with redis.Redis.from_url(redis_url(broker_url)) as client:
        yield client


@pytest.fixture
def model_examples() -> int:
    """Enough for a second or two; `tests/system/store` has many more."""
    return 15


@pytest.fixture
def store(broker_url: str) -> Iterator[Store]:
    """A store over a real server."""
    store = Store.connect(broker_url)
    yield store
    store.close()
