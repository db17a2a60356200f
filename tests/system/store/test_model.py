"""The model of the store, over a real server and with many more examples."""

import pytest

from tests.unit.store.model.test_machine import *


@pytest.fixture
def model_examples() -> int:
    """Enough to reach all states that matter, in some twenty seconds."""
    return 100
