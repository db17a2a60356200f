"""These tests need the real CLIs."""

from __future__ import annotations

import pytest

from tests.system.realcli.install import bin_directory


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    """Without the CLIs these tests fail, each saying what to do; they are never skipped."""
    bin_directory()
