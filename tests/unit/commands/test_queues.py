"""`clinvk queues pause` and `resume`: by hand, until a time, and whatever a limit has closed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import fakeredis
import pytest

from clinvk.commands import queues
from clinvk.core.errors import UsageError
from clinvk.core.spec import RunOptions, TaskSpec
from clinvk.core.timestamps import rfc3339
from clinvk.runs.celery_client import CeleryClient
from clinvk.store.store import Store
from clinvk.store.types import Hold, Lease, QueueState

QUEUE = "clinvk.a"


class Client:
    """A client of a fleet on paper with one worker."""

    def __init__(self) -> None:
        self.store = Store(fakeredis.FakeRedis())
        self.store.announce("w", {"slots": 9, "queues": [QUEUE]})

    @property
    def it(self) -> CeleryClient:
        return cast(CeleryClient, SimpleNamespace(store=self.store))

    @property
    def queue(self) -> QueueState:
        (found,) = self.store.queues()
        return found

    def until(self) -> datetime:
        until_ms = self.queue.paused_until_ms
        assert until_ms is not None
        return datetime.fromtimestamp(until_ms / 1000, UTC).astimezone()


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.mark.usefixtures("east")
def test_a_queue_is_paused_until_a_clock_shows_a_time(client: Client, capsys: Any) -> None:
    now = datetime.now(UTC).astimezone()
    for at in (now + timedelta(minutes=61), now - timedelta(minutes=61)):
        queues.pause(client.it, "a", f"{at:%H:%M}")
        until = client.until()
        assert (until.hour, until.minute, until.second) == (at.hour, at.minute, 0)
        assert now < until <= now + timedelta(days=1)
        assert capsys.readouterr().out.startswith("a is paused until ")


def test_a_queue_is_paused_until_a_moment_or_for_a_while(client: Client) -> None:
    queues.pause(client.it, "a", "2999-01-01T00:00:00+01:00")
    assert rfc3339(client.until()) == "2998-12-31T23:00:00.000Z"
    now_ms = client.store.server_time_ms()
    queues.pause(client.it, "a", "30m")
    assert now_ms + 1_800_000 <= (client.queue.paused_until_ms or 0) <= now_ms + 1_900_000
    queues.pause(client.it, "a", None)
    assert (client.queue.is_paused_now, client.queue.paused_until_ms) == (True, None)


@pytest.mark.parametrize(
    ("until", "problem"),
    [
        ("soon", "must be a time of day like 14:00, a time with a zone"),
        ("25:00", "must be a time of day"),
        ("2999-01-01T00:00:00", "a time with a zone like 2026-01-02T14:00:00Z"),
        ("2001-01-01T00:00:00Z", "2001-01-01T00:00:00Z is over"),
        ("0", "0 is over"),
    ],
)
def test_what_is_no_time_to_come_is_refused(client: Client, until: str, problem: str) -> None:
    with pytest.raises(UsageError, match=f"--until: .*{problem}"):
        queues.pause(client.it, "a", until)
    assert not client.queue.is_paused


def test_resume_opens_whatever_has_closed_a_queue(client: Client) -> None:
    client.store.submit("r", [TaskSpec(backend="a", prompt="x")] * 2, RunOptions(max_parallel=1))
    lease = Lease("r", 0, 1)
    client.store.claim(lease, "w/1", "n")
    reset_ms = client.store.server_time_ms() + 3_600_000
    client.store.hold(lease, Hold(signal="window", retry_at_ms=reset_ms, kind="usage_limit"))
    queues.pause(client.it, "a", "30m")
    assert client.queue.gate is not None
    assert client.queue.in_flight == 0
    queues.resume(client.it, "a")
    assert client.queue.gate is None
    assert not client.queue.is_paused
    assert client.queue.paused_until_ms is None
    assert client.queue.in_flight == 1
