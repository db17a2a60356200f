"""`tests/unit/store/test_budgets.py` over a real server."""

from tests.unit.store.test_budgets import *
