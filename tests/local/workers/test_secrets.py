"""No task reads the broker's password, or the key of another CLI, from any process."""

from __future__ import annotations

import os
import sys

import pytest

from tests import secret_hunt

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")


def test_in_local_mode() -> None:
    with secret_hunt.hunt(os.geteuid()) as hunted:
        assert hunted.submit() == "found: nothing"
