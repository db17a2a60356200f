"""`tests/unit/store/test_workers.py` over a real server."""

from tests.unit.store.test_workers import *
