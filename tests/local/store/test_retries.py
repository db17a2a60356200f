"""`tests/unit/store/test_retries.py` over a real server."""

from tests.unit.store.test_retries import *
