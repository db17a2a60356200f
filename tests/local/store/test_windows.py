"""`tests/unit/store/test_windows.py` over a real server."""

from tests.unit.store.test_windows import *
