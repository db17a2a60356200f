"""The fleet that these tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import harness
from tests.system.fleet.machines import Fleet


@pytest.fixture
def fleet(tmp_path: Path, temporary: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    try:
        yield fleet
        assert fleet.leases() == []
        assert harness.keys_without_lifetime(fleet.store.redis) == []
    finally:
        fleet.close()
