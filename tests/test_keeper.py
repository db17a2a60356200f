"""The keeper: leases are renewed, cancellations heard, and a worker out of touch stops its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests import harness
from tests.test_kernel import RUN, claim, submit
from workers import keeper as keeper_module
from workers.app import create_app
from workers.dispatch import Dispatcher
from workers.keeper import CUT_OFF_SECONDS, Keeper
from workers.kernel import LEASE_MS, Kernel, Lease, key
from workers.process import TERM_GRACE_SECONDS, StopSignal

LEASE = Lease(RUN, 0, 1)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FlakyKernel(Kernel):
    """A kernel whose server a test can take away."""

    away = False

    def _call(self, verb: str, *args: object) -> Any:
        if self.away:
            raise redis.ConnectionError("away")
        return super()._call(verb, *args)

    def wait_signals(self, after: str, block_ms: int) -> tuple[str, list[str]]:
        if self.away:
            raise redis.ConnectionError("away")
        return super().wait_signals(after, min(block_ms, 20))


@pytest.fixture
def kernel(broker_url: str) -> Iterator[FlakyKernel]:
    kernel = FlakyKernel.connect(broker_url)
    yield kernel
    kernel.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keeper(
    kernel: FlakyKernel, clock: Clock, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Keeper]:
    monkeypatch.setattr(keeper_module, "RETRY_SECONDS", 0.01)
    app = create_app(broker_url)
    keeper = Keeper(Dispatcher(app, kernel), "k@h", {"slots": 0, "queues": []}, clock)
    keeper.start()
    yield keeper
    kernel.away = False
    keeper.close()
    app.close()


def deadline(kernel: Kernel, lease: Lease = LEASE) -> float:
    score = kernel.redis.zscore(key("leases", "clinvk.a"), str(lease))
    assert score is not None
    return float(score)


def stopped(stop: StopSignal) -> str:
    return str(harness.wait_until(lambda: stop.reason, "the command to be stopped"))


def test_leases_are_renewed_in_time(keeper: Keeper, kernel: FlakyKernel, clock: Clock) -> None:
    submit(kernel)
    claim(kernel, 0)
    before = deadline(kernel)
    with keeper.hold(LEASE) as stop:
        clock.now += keeper_module.RENEW_SECONDS
        harness.wait_until(lambda: deadline(kernel) > before, "the lease to be renewed")
        assert stop.reason is None


def test_a_canceled_run_is_stopped_at_once(keeper: Keeper, kernel: FlakyKernel) -> None:
    submit(kernel)
    claim(kernel, 0)
    with keeper.hold(LEASE) as stop, keeper.hold(Lease("another-run", 0, 1)) as other:
        kernel.cancel(RUN, "interrupted")  # the clock stands: no renewal is due
        assert stopped(stop) == "canceled"
        assert other.reason is None


def test_a_task_that_somebody_else_has_by_now_is_stopped(
    keeper: Keeper, kernel: FlakyKernel, clock: Clock
) -> None:
    submit(kernel)
    with keeper.hold(LEASE) as stop:  # never claimed: it is not ours
        clock.now += keeper_module.RENEW_SECONDS
        assert stopped(stop) == "canceled"


def test_out_of_touch_a_worker_stops_its_own_before_the_lease_is_over(
    keeper: Keeper, kernel: FlakyKernel, clock: Clock
) -> None:
    assert CUT_OFF_SECONDS + TERM_GRACE_SECONDS < LEASE_MS / 1000
    submit(kernel)
    claim(kernel, 0)
    with keeper.hold(LEASE) as stop:
        kernel.away = True
        clock.now += CUT_OFF_SECONDS - 0.1
        assert stop.reason is None
        clock.now += 0.1
        assert stopped(stop) == "cut_off"


def test_a_short_absence_stops_nothing(keeper: Keeper, kernel: FlakyKernel, clock: Clock) -> None:
    submit(kernel)
    claim(kernel, 0)
    before = deadline(kernel)
    with keeper.hold(LEASE) as stop:
        kernel.away = True
        clock.now += CUT_OFF_SECONDS / 2
        kernel.away = False
        harness.wait_until(lambda: deadline(kernel) > before, "the lease to be renewed")
        assert stop.reason is None


def test_a_worker_that_goes_down_stops_all(keeper: Keeper) -> None:
    with keeper.hold(LEASE) as stop:
        keeper.stop_all("canceled")
        assert stop.reason == "canceled"


def test_a_retired_worker_counts_only_what_it_still_runs(
    keeper: Keeper, kernel: FlakyKernel
) -> None:
    def slots() -> int | None:
        entry = kernel.workers().get("k@h")
        return entry["slots"] if entry else None

    harness.wait_until(lambda: slots() is not None, "the worker to be known")
    with keeper.hold(LEASE):
        with keeper.hold(Lease(RUN, 1, 1)):
            keeper.retire()
            assert slots() == 2
        assert slots() == 1
    assert slots() is None
