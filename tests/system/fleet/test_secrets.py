"""tests/local/workers/test_secrets.py on fleets, and as a user who cannot read root's processes."""

from __future__ import annotations

import pytest

from tests import secret_hunt

ROOT = 0
USER = 1000


def test_in_local_mode() -> None:
    with secret_hunt.hunt(USER) as hunted:
        assert hunted.submit() == "found: nothing"


@pytest.mark.parametrize("user", [ROOT, USER])
@pytest.mark.parametrize("how", secret_hunt.STARTED_BY)
def test_on_a_fleet(how: str, user: int) -> None:
    with secret_hunt.hunt(user) as hunted:
        assert secret_hunt.on_a_fleet(hunted, how) == ["found: nothing"] * 2
