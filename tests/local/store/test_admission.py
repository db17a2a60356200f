"""`tests/unit/store/test_admission.py` over a real server."""

from tests.unit.store.test_admission import *
