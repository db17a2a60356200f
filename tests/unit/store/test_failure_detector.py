"""Nobody reaps what may still run: the reaper's rules and the worker's, against each other."""

from __future__ import annotations

import pytest

from clinvk.store import failure_detector
from clinvk.store.failure_detector import Overdue, Server, loss_reason, stop_deadline
from workers.execution.monitor import SHORT_GRACE_SECONDS
from workers.execution.orphans import GRACE_SECONDS

DAY_MS = 86_400_000
SERVER = Server("this", DAY_MS, frozenset({7}))


def overdue(connection: str = "this:7", over_ms: int | None = 1, running: bool = True) -> Overdue:
    return Overdue("run:0:1", running, "w/1", connection, over_ms)


def test_what_was_given_up_is_lost_whatever_else_is_known() -> None:
    assert loss_reason(overdue(over_ms=None), Server("other", 0, None)) == "its worker released it"


def test_a_worker_whose_connection_has_closed_has_ended() -> None:
    assert loss_reason(overdue("this:6"), SERVER) == "its worker ended"


@pytest.mark.parametrize("connection", ["this:7", "before:6", ""])
def test_one_that_may_only_be_out_of_touch_is_waited_for(connection: str) -> None:
    last = failure_detector.SILENCE_MS - failure_detector.LEASE_MS
    assert loss_reason(overdue(connection, last), SERVER) is None
    assert (
        loss_reason(overdue(connection, last + 1), SERVER) == "its worker was silent for too long"
    )


def test_nobody_is_silent_for_a_server_that_has_just_come_up() -> None:
    server = Server("this", failure_detector.SILENCE_MS, frozenset())
    assert loss_reason(overdue("before:6", DAY_MS), server) is None


def test_where_nobody_may_ask_who_is_connected_silence_decides() -> None:
    server = Server("this", DAY_MS, None)
    assert loss_reason(overdue("this:6"), server) is None
    assert loss_reason(overdue("this:6", failure_detector.SILENCE_MS), server) is not None


def test_a_message_that_nobody_claimed_is_published_again_but_not_right_after_a_restart() -> None:
    assert loss_reason(overdue("", running=False), SERVER) == "nobody claimed it"
    assert (
        loss_reason(overdue("", running=False), Server("this", failure_detector.LEASE_MS, None))
        is None
    )


def ended(stopped_at: float) -> float:
    """When nothing runs any more of a worker whose time to stop was this, at the latest."""
    notices = stopped_at + failure_detector.ANSWER_SECONDS
    return notices + SHORT_GRACE_SECONDS + GRACE_SECONDS


def test_a_worker_has_stopped_before_anybody_may_reap() -> None:
    # What is asked at 0 and answered gives a lease from then or later.
    closed = stop_deadline(0, is_connected=False, refused_at=None)
    assert ended(closed) < failure_detector.LEASE_MS / 1000
    stands = stop_deadline(0, is_connected=True, refused_at=None)
    assert ended(stands) < failure_detector.SILENCE_MS / 1000


def test_a_server_that_was_down_gives_as_much_time_as_its_successor_waits() -> None:
    refused_at = 3600.0  # a server that comes up later waits for so long before it believes silence
    closed = stop_deadline(0, is_connected=False, refused_at=refused_at)
    assert ended(closed) - refused_at < failure_detector.SILENCE_MS / 1000
