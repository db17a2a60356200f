"""The lease renewer: renews leases, hears cancellations, stops what a disconnected worker runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from clinvk.broker.app import create_app
from clinvk.broker.dispatcher import Dispatcher
from clinvk.broker.message import maker
from clinvk.broker.recent_results import RecentResults
from clinvk.store.failure_detector import DISCONNECTED_SECONDS, RENEW_SECONDS, SILENT_SECONDS
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import Lease, Reaped
from tests import harness
from tests.unit.store.test_store import RUN, result, submit
from workers.execution.stop_signal import StopSignal
from workers.liveness import lease_renewer as renewer_module
from workers.liveness.connection import LivenessConnection
from workers.liveness.lease_renewer import LeaseRenewer
from workers.liveness.worker_info import Announcement
from workers.observers import Observers, RunCanceled, TaskLost, TaskRetried, WorkerEvent

LEASE = Lease(RUN, 0, 1)
OWNER = "k@h/1"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FlakyStore(Store):
    """A store whose server a test can take away."""

    away: Exception | None = None
    broken: redis.ResponseError | None = None

    def reap(self) -> Reaped:
        if self.broken:
            raise self.broken
        return super().reap()

    def call(self, name: str, **arguments: Any) -> Any:
        self._fail()
        return super().call(name, **arguments)

    def wait_signals(self, after: str, block_ms: int) -> tuple[str, list[str]]:
        self._fail()
        return super().wait_signals(after, min(block_ms, 20))

    def _fail(self) -> None:
        if self.away:
            raise redis.ConnectionError("away") from self.away


class FakeConnection(LivenessConnection):
    """A connection that a test can take away."""

    def __init__(self) -> None:
        self.away = False
        self.server = "server"
        self._is_open = False

    def open(self) -> str:
        self._is_open = True
        return f"{self.server}:1"

    def fail_over(self) -> None:
        """Have another server answer from now on."""
        self.server = "another"
        self._is_open = False

    @property
    def stands(self) -> bool:
        return self._is_open and not self.away

    def close(self) -> None:
        pass


@pytest.fixture
def store(broker_url: str) -> Iterator[FlakyStore]:
    store = FlakyStore.connect(broker_url)
    yield store
    store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Seen:
    """An observer that keeps what it saw."""

    def __init__(self) -> None:
        self.events: list[WorkerEvent] = []

    def saw(self, event: WorkerEvent) -> None:
        self.events.append(event)

    def wait_for(self, event: WorkerEvent) -> None:
        harness.wait_until(lambda: event in self.events, f"{event} to be seen")


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def recent() -> RecentResults:
    return RecentResults()


@pytest.fixture
def connection() -> FakeConnection:
    return FakeConnection()


@pytest.fixture
def renewer(
    store: FlakyStore,
    connection: FakeConnection,
    clock: Clock,
    seen: Seen,
    recent: RecentResults,
    broker_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[LeaseRenewer]:
    monkeypatch.setattr(renewer_module, "RETRY_SECONDS", 0.01)
    app = create_app(broker_url)
    announcement = Announcement(store, "k@h", {"slots": 0, "queues": []})
    renewer = LeaseRenewer(
        Dispatcher(maker(app), store, recent),
        OWNER,
        announcement,
        connection,
        Observers([seen]),
        clock,
    )
    renewer.start()
    harness.wait_until(store.workers, "the lease renewer to announce its worker")
    yield renewer
    store.away = None
    renewer.close()
    app.close()


def deadline(store: Store, lease: Lease = LEASE) -> float:
    score = store.redis.zscore(key("leases", "clinvk.a"), str(lease))
    assert score is not None
    return float(score)


def settled_deadline(store: Store) -> float:
    """Return when a lease ends; one that is renewed from now on, and not in this ms, ends later."""
    now_ms = store.server_time_ms()
    harness.wait_until(lambda: store.server_time_ms() > now_ms, "the server's clock")
    return deadline(store)


def keep_up(store: Store, clock: Clock) -> None:
    """Wait for a renewal, at the time that it is now or one renewal ago."""
    before = settled_deadline(store)
    clock.now += RENEW_SECONDS
    harness.wait_until(lambda: deadline(store) > before, "the lease to be renewed")


def failed_again(renewer: LeaseRenewer) -> None:
    """Wait until the lease renewer has failed once more to reach the server, from now on."""
    for _ in range(2):  # what was under way may have begun before
        wait_until_more(renewer, renewer.failures)


def wait_until_more(renewer: LeaseRenewer, failures: int) -> None:
    harness.wait_until(lambda: renewer.failures > failures, "the lease renewer to try")


def stopped(stop: StopSignal) -> str:
    return str(harness.wait_until(lambda: stop.reason, "the command to be stopped"))


def test_leases_are_renewed_in_time(renewer: LeaseRenewer, store: FlakyStore, clock: Clock) -> None:
    submit(store)
    store.claim(LEASE, OWNER, "a")
    with renewer.hold(LEASE) as stop:
        keep_up(store, clock)
        assert stop.reason is None


def test_what_comes_to_a_worker_that_is_closing_is_requeued(renewer: LeaseRenewer) -> None:
    renewer.close()
    with renewer.hold(LEASE) as stop:
        assert stop.reason == "requeued"


def test_a_canceled_run_is_stopped_at_once(renewer: LeaseRenewer, store: FlakyStore) -> None:
    submit(store)
    store.claim(LEASE, OWNER, "a")
    with renewer.hold(LEASE) as stop, renewer.hold(Lease("another-run", 0, 1)) as other:
        store.cancel(RUN, "interrupted")  # the clock stands: no renewal is due
        assert stopped(stop) == "canceled"
        assert other.reason is None


def test_observers_see_what_became_of_a_run(
    renewer: LeaseRenewer, store: FlakyStore, seen: Seen
) -> None:
    submit(store)
    store.cancel(RUN, "interrupted")
    harness.wait_until(lambda: RunCanceled(RUN) in seen.events, "the cancellation to be seen")


def test_observers_see_what_was_lost(renewer: LeaseRenewer, store: FlakyStore, seen: Seen) -> None:
    submit(store)
    for dispatch in range(1, 4):
        lease = Lease(RUN, 0, dispatch)
        store.claim(lease, "dead/2", "a")
        assert (TaskRetried(lease) in seen.events) == (dispatch > 1)
        store.release("dead/2")
        if dispatch < 3:
            seen.wait_for(TaskRetried(Lease(RUN, 0, dispatch + 1)))
    seen.wait_for(TaskLost(Lease(RUN, 0, 3), "its worker released it", 3))


def test_what_redis_refuses_is_logged_once_and_the_worker_goes_on(
    renewer: LeaseRenewer, store: FlakyStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    submit(store)
    store.claim(LEASE, OWNER, "a")
    with renewer.hold(LEASE) as stop:
        store.broken = redis.ResponseError("wrong type in a script")
        for _ in range(3):
            keep_up(store, clock)
        assert stop.reason is None
        store.cancel(RUN, "interrupted")
        assert stopped(stop) == "canceled"
    logged = [record.getMessage() for record in caplog.records]
    assert logged == ["looking for lost tasks: ResponseError: wrong type in a script"]


def test_a_server_that_took_over_gets_the_latest_results_again(
    renewer: LeaseRenewer, store: FlakyStore, connection: FakeConnection, recent: RecentResults
) -> None:
    submit(store)
    store.claim(LEASE, OWNER, "a")
    recent.add(LEASE, result(0))  # this server never heard of it
    connection.fail_over()
    harness.wait_until(lambda: list(store.results(RUN, [0])) == [result(0)], "the result")


def test_a_loss_is_not_recorded_before_redis_is_back(
    renewer: LeaseRenewer,
    store: FlakyStore,
    clock: Clock,
    seen: Seen,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread that renews leases must not wait inside of what it does for other workers."""

    def fail(*_: Any) -> Any:
        raise redis.ConnectionError("away")

    submit(store, max_attempts=1)
    with monkeypatch.context() as away, renewer.hold(LEASE):
        away.setattr(store, "finish", fail)
        store.claim(LEASE, OWNER, "a")
        other = Lease(RUN, 1, 1)
        store.claim(other, "dead/2", "b")
        store.release("dead/2")
        failed_again(renewer)
        keep_up(store, clock)
    harness.wait_until(lambda: list(store.results(RUN, [1])) != [None], "the loss")


def test_a_task_that_somebody_else_has_by_now_is_stopped(
    renewer: LeaseRenewer, store: FlakyStore, clock: Clock
) -> None:
    submit(store)
    store.claim(LEASE, "another/2", "a")
    with renewer.hold(LEASE) as stop:
        clock.now += RENEW_SECONDS
        assert stopped(stop) == "canceled"


@pytest.mark.parametrize(
    ("connection_stands", "seconds"), [(False, DISCONNECTED_SECONDS), (True, SILENT_SECONDS)]
)
def test_out_of_touch_a_worker_stops_its_own_in_time(
    renewer: LeaseRenewer,
    store: FlakyStore,
    connection: FakeConnection,
    clock: Clock,
    connection_stands: bool,
    seconds: float,
) -> None:
    submit(store)
    store.claim(LEASE, OWNER, "a")
    with renewer.hold(LEASE) as stop:
        keep_up(store, clock)
        store.away, connection.away = TimeoutError(), not connection_stands
        clock.now += seconds - RENEW_SECONDS - 0.1
        failed_again(renewer)
        assert stop.reason is None
        clock.now += RENEW_SECONDS + 0.1
        assert stopped(stop) == "disconnected"


def test_a_server_that_is_down_stops_nothing_however_long(
    renewer: LeaseRenewer, store: FlakyStore, connection: FakeConnection, clock: Clock
) -> None:
    submit(store)
    store.claim(LEASE, OWNER, "a")
    with renewer.hold(LEASE) as stop:
        keep_up(store, clock)
        connection.away, store.away = True, ConnectionRefusedError()
        for _ in range(100):
            clock.now += DISCONNECTED_SECONDS - 0.1
            failed_again(renewer)
        assert stop.reason is None
        store.away = TimeoutError()  # it may be up again, and only not for us
        clock.now += DISCONNECTED_SECONDS
        assert stopped(stop) == "disconnected"


def test_a_short_absence_stops_nothing(
    renewer: LeaseRenewer, store: FlakyStore, connection: FakeConnection, clock: Clock
) -> None:
    submit(store)
    store.claim(LEASE, OWNER, "a")
    before = settled_deadline(store)
    with renewer.hold(LEASE) as stop:
        store.away, connection.away = TimeoutError(), True
        clock.now += DISCONNECTED_SECONDS / 2
        store.away, connection.away = None, False
        harness.wait_until(lambda: deadline(store) > before, "the lease to be renewed")
        assert stop.reason is None


def test_a_worker_that_goes_down_stops_all(renewer: LeaseRenewer) -> None:
    with renewer.hold(LEASE) as stop:
        renewer.stop_all("canceled")
        assert stop.reason == "canceled"


def test_a_retired_worker_counts_only_what_it_still_runs(
    renewer: LeaseRenewer, store: FlakyStore
) -> None:
    def slots() -> int | None:
        entry = store.workers().get("k@h")
        return entry["slots"] if entry else None

    harness.wait_until(lambda: slots() is not None, "the worker to be known")
    with renewer.hold(LEASE), renewer.hold(Lease(RUN, 1, 1)):
        renewer.drain()
        assert slots() == 2
        renewer.mark_ended(LEASE)
        assert slots() == 1
        renewer.mark_ended(Lease(RUN, 1, 1))
        assert slots() is None
