"""`tests/unit/store/test_ordered.py` over a real server."""

from tests.unit.store.test_ordered import *
