"""Times as this machine's clock shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clinvk.core.timestamps import rfc3339, until


@pytest.mark.usefixtures("east")
def test_a_moment_is_a_time_today_and_a_date_later() -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert until(rfc3339(soon)) == f" until {soon.astimezone():%H:%M}"
    assert until("2030-01-02T23:30:00Z") == " until 2030-01-03 01:30"


@pytest.mark.parametrize("moment", [None, "", "soon", "0000-01-01T00:00:00Z"])
def test_what_is_no_moment_says_nothing(moment: str | None) -> None:
    assert until(moment) == ""
