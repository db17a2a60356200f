"""`tests/unit/store/test_explain.py` over a real server."""

from tests.unit.store.test_explain import *
