"""`tests/unit/store/test_store.py` over a real server."""

from tests.unit.store.test_store import *
