"""`tests/unit/store/model` over a real server."""

from tests.unit.store.model.test_machine import *
