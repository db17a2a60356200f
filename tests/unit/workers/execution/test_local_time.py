"""The time in the zone of this machine, with its rules for other times of the year."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from workers.execution import local_time


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    monkeypatch.setattr("tzlocal.unix._cache_tz", None)
    time.tzset()
    local_time._zone.cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()
    local_time._zone.cache_clear()


@pytest.mark.parametrize("zone", ["America/New_York"], indirect=True)
def test_it_is_in_the_zone_of_the_machine(zone: None) -> None:
    now = local_time.now()
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)
    summer, winter = (now.replace(month=month, day=1) for month in (7, 1))
    assert [moment.utcoffset() for moment in (summer, winter)] == [
        timedelta(hours=-4),
        timedelta(hours=-5),
    ]


@pytest.mark.parametrize("zone", ["Mars/Olympus"], indirect=True)
def test_a_zone_that_nobody_knows_is_the_offset_that_the_system_has(zone: None) -> None:
    assert local_time.now().utcoffset() == datetime.now().astimezone().utcoffset()


def test_a_command_may_have_a_zone_of_its_own() -> None:
    assert str(local_time.now("Asia/Kolkata").tzinfo) == "Asia/Kolkata"
    unknown = local_time.now("Mars/Olympus")
    assert unknown.utcoffset() == datetime.now().astimezone().utcoffset()
