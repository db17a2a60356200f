"""The fixtures of tests that need more than Python: root, namespaces, npm, linters."""

from tests.local.conftest import redis_client, store
from tests.server import broker_url, server

__all__ = ["broker_url", "redis_client", "server", "store"]
