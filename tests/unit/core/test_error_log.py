"""The log of errors that come again and again."""

from __future__ import annotations

import logging

import pytest

from clinvk.core import error_log
from clinvk.core.error_log import ErrorLog

logger = logging.getLogger(__name__)


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def errors(clock: Clock) -> ErrorLog:
    return ErrorLog(logger, repeat_seconds=60, clock=clock)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_an_error_is_logged_once_and_then_counted(
    errors: ErrorLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        errors.log("run 1", ValueError("bad"))
    assert lines(caplog) == ["run 1: ValueError: bad"]
    assert caplog.records[0].exc_info
    clock.now = 60
    errors.log("run 1", ValueError("bad"))
    assert lines(caplog)[1:] == ["run 1: ValueError: bad (5 times more)"]
    assert not caplog.records[1].exc_info


def test_errors_are_told_apart_by_what_was_done_by_type_and_text(
    errors: ErrorLog, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        errors.log("run 1", ValueError("bad"))
        errors.log("run 2", ValueError("bad"))
        errors.log("run 1", TypeError("bad"))
        errors.log("run 1", ValueError("worse"))
    assert len(lines(caplog)) == 4


def test_what_is_remembered_has_a_limit(
    errors: ErrorLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_log, "MAX_ERRORS", 2)
    for run in (1, 2, 3, 2, 1):
        errors.log(f"run {run}", ValueError("bad"))
    assert [line.partition(":")[0] for line in lines(caplog)] == [
        "run 1",
        "run 2",
        "run 3",
        "run 1",
    ]
