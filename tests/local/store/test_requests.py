"""`tests/unit/store/test_requests.py` over a real server."""

from tests.unit.store.test_requests import *
