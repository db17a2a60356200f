"""`tests/unit/store/test_ledger.py` over a real server."""

from tests.unit.store.test_ledger import *
