"""`tests/unit/store/test_gates.py` over a real server."""

from tests.unit.store.test_gates import *
