"""The store's operations in any order, against a plain Python model of what they should do."""

import pytest

pytest.register_assert_rewrite("tests.unit.store.model.fleet", "tests.unit.store.model.record")
