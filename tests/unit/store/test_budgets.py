"""Budgets of runs and of days: what would go over is not started, and nothing stays reserved."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from clinvk.core.spec import (
    ErrorKind,
    RunOptions,
    RunSummary,
    TaskResult,
    TaskSpec,
    TaskStatus,
    Usage,
)
from clinvk.store import decoding, leases
from clinvk.store.keys import key
from clinvk.store.types import Admission, Claim, Hold, Lease
from tests.virtual_time import VirtualTimeStore

RUN = "r"
DAY_SECONDS = 86_400


def used(index: int, cost_usd: float | None, tokens: int = 1000, **fields: Any) -> TaskResult:
    result = TaskResult(
        index=index,
        status=TaskStatus.OK,
        exit_code=0,
        duration_seconds=0.1,
        usage=Usage(output_tokens=tokens, total_tokens=tokens) if tokens else None,
        cost_usd=cost_usd,
        cost_source="unknown" if cost_usd is None else "cli",
    )
    return replace(result, **fields)


class Fleet:
    """A fleet on paper, with as many slots as it needs."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.out: list[Lease] = []
        self.claims: dict[Lease, Claim] = {}
        self.take(self.store.announce("w", {"slots": 99, "queues": ["clinvk.a", "clinvk.b"]}))

    def submit(
        self, *specs: TaskSpec, run: str = RUN, user: str = "ann", **options: Any
    ) -> list[Lease]:
        given = {"max_parallel": 10, **options}
        submitted = self.store.submit(run, specs, RunOptions(**given), user=user)
        return self.take(submitted.admission)

    def take(self, admission: Admission) -> list[Lease]:
        """Claim what was dispatched."""
        assert not admission.failures
        found = [Lease(each.run, each.index, each.dispatch) for each in admission.dispatched]
        for lease in found:
            self.claims[lease] = self.store.claim(lease, "w/1", str(lease))
        self.out += found
        return found

    def end(self, lease: Lease, cost_usd: float | None, **fields: Any) -> list[Lease]:
        """Record the end of a task; returns what is dispatched then."""
        self.out.remove(lease)
        return self.take(self.store.finish(lease, used(lease.index, cost_usd, **fields)).admission)

    def lose(self, lease: Lease) -> None:
        """Lose the worker of a task; it is dispatched again, or its end is recorded."""
        self.out.remove(lease)
        self.store.redis.zadd(key("leases", "clinvk.a"), {str(lease): 1})
        exhausted, admission, _ = self.store.call(
            "lose", claim_timeout_ms=1000, losses=[str(lease), "it ended"]
        )
        self.take(decoding.admission(admission))
        if exhausted:
            lost = TaskResult.lost(lease.index, "it ended", exhausted[0][1])
            self.take(self.store.finish(lease, lost).admission)

    def reap(self) -> list[Lease]:
        reaped = self.store.reap()
        assert not reaped.failures
        assert not reaped.repairs
        taken = self.take(reaped.admission)
        for run in reaped.complete:
            self.store.aggregate(run)
        return taken

    def summary(self, run: str = RUN) -> RunSummary:
        found: RunSummary | None = self.store.summary(run)
        assert found is not None
        return found

    def reserved(self, run: str = RUN) -> dict[str, int]:
        """What is reserved of a run, and of the day, where it is not 0."""
        own = self.store.redis.hgetall(key("reserved", run))
        day = self.store.redis.hgetall(key("all_reserved"))
        return {
            name.decode(): int(amount)
            for name, amount in (own | day).items()
            if b":" not in amount and amount != b"0"
        }

    def indexes(self) -> list[int]:
        return sorted(lease.index for lease in self.out)


@pytest.fixture
def fleet(redis_client: Any) -> Fleet:
    return Fleet(VirtualTimeStore(redis_client))


def tasks(count: int, backend: str = "a", **fields: Any) -> list[TaskSpec]:
    return [TaskSpec(backend=backend, prompt="x", **fields) for _ in range(count)]


def dollars(amount: float) -> int:
    return round(amount * 1_000_000)


def test_what_would_go_over_is_not_started(fleet: Fleet) -> None:
    fleet.submit(*tasks(10), max_micro_usd=dollars(3))
    assert fleet.indexes() == [0, 1, 2]  # a dollar each, since nothing is known
    assert fleet.reserved() == {"cost": dollars(3), "tokens": 1_500_000}
    fleet.end(fleet.out[0], 0.5)
    assert len(fleet.out) == 2  # 0.50 are used, 2.00 are reserved, and it is about 0.60 now
    while fleet.out:
        fleet.end(fleet.out[0], 0.5)
    summary = fleet.summary()
    assert (summary.state, summary.cancel_reason) == ("canceled", "budget")
    assert (summary.ok, summary.spent_micro_usd) == (5, dollars(2.5))
    assert summary.budget_of == "run"
    assert fleet.reserved() == {}
    fleet.store.aggregate(RUN)
    (left,) = fleet.store.never_ended(RUN, [9])
    assert (left.status, left.error_kind) == (TaskStatus.CANCELED, ErrorKind.BUDGET)


def test_a_guess_does_not_keep_a_run_from_starting(fleet: Fleet) -> None:
    fleet.submit(*tasks(3), max_micro_usd=dollars(0.5))
    assert fleet.indexes() == [0]
    assert fleet.reserved()["cost"] == dollars(0.5)
    fleet.end(fleet.out[0], 0.01)
    assert fleet.indexes() == [1, 2]  # now it is known to be cheap


def test_tokens_can_be_counted_instead(fleet: Fleet) -> None:
    fleet.submit(*tasks(5), max_total_tokens=2500, estimate_tokens=1000)
    assert fleet.indexes() == [0, 1]
    while fleet.out:
        fleet.end(fleet.out[0], None, tokens=1000)
    summary = fleet.summary()
    assert (summary.ok, summary.spent_tokens, summary.cancel_reason) == (2, 2000, "budget")


def test_an_estimate_is_what_nine_of_ten_did_not_go_over(fleet: Fleet) -> None:
    fleet.submit(*tasks(10), run="before")
    for lease in list(fleet.out):
        fleet.end(lease, 9.0 if lease.index == 0 else 0.1)
    fleet.submit(*tasks(10), max_micro_usd=dollars(1))
    assert 0.09 <= fleet.reserved()["cost"] / 1e6 / len(fleet.out) < 0.11
    assert len(fleet.out) == 10


def test_models_have_estimates_of_their_own(fleet: Fleet) -> None:
    fleet.submit(*tasks(1, model="dear"), *tasks(1, model="cheap"), run="before")
    dear, cheap = list(fleet.out)
    fleet.end(dear, 2.0, model="dear")
    fleet.end(cheap, 0.01, model="cheap")
    fleet.submit(*tasks(3, model="dear"), max_micro_usd=dollars(3))
    assert len(fleet.out) == 1
    fleet.submit(*tasks(3, model="cheap"), run="other", max_micro_usd=dollars(3))
    assert len(fleet.out) == 4


def test_what_runs_is_stopped_where_that_is_asked(fleet: Fleet) -> None:
    fleet.submit(*tasks(5), max_micro_usd=dollars(2), on_budget="stop")
    first, second = list(fleet.out)
    fleet.end(first, 2.5)
    summary = fleet.summary()
    assert (summary.state, summary.running, summary.canceled) == ("canceled", 1, 3)
    fleet.end(second, 0.1, status=TaskStatus.CANCELED)
    assert fleet.reserved() == {}


def test_otherwise_it_ends(fleet: Fleet) -> None:
    fleet.submit(*tasks(5), max_micro_usd=dollars(2))
    first, second = list(fleet.out)
    fleet.end(first, 2.5)
    assert fleet.summary().state == "running"
    assert not fleet.reap()
    fleet.end(second, 0.1)
    assert fleet.summary().cancel_reason == "budget"


def test_a_lost_execution_counts_as_estimated(fleet: Fleet) -> None:
    fleet.submit(*tasks(2), max_micro_usd=dollars(1.5))
    (lease,) = fleet.out
    fleet.lose(lease)
    summary = fleet.summary()
    assert (summary.spent_micro_usd, summary.assumed_micro_usd) == (0, dollars(1))
    assert fleet.reserved()["cost"] == dollars(0.5)


def test_a_refusal_counts_nothing(fleet: Fleet) -> None:
    fleet.submit(*tasks(2, retries=2), max_micro_usd=dollars(1.5))
    (lease,) = fleet.out
    refused = used(0, None, tokens=0, status=TaskStatus.FAILED)
    held = fleet.store.hold(lease, Hold(signal="burst", delay_ms=1000, result=refused))
    fleet.out.remove(lease)
    assert held.verdict == "held"
    fleet.take(held.admission)
    assert fleet.summary().assumed_micro_usd == 0
    assert fleet.reserved().get("cost", 0) == len(fleet.out) * dollars(1)


def test_a_run_whose_cost_nobody_knows_ends_at_its_first_result(fleet: Fleet) -> None:
    fleet.submit(*tasks(9), max_micro_usd=dollars(2))
    for lease in list(fleet.out):
        fleet.end(lease, None, model="m")
    summary = fleet.summary()
    assert (summary.cancel_reason, summary.unpriced, summary.ok) == ("unknown_cost", "a:m", 2)


def test_unless_that_is_allowed(fleet: Fleet) -> None:
    fleet.submit(*tasks(9), max_micro_usd=dollars(2), allow_unknown_cost=True)
    while fleet.out:
        fleet.end(fleet.out[0], None, model="m")
    summary = fleet.summary()
    assert (summary.cancel_reason, summary.ok) == ("budget", 2)
    assert summary.assumed_micro_usd == dollars(2)


def test_a_failure_without_a_cost_is_no_reason_to_end(fleet: Fleet) -> None:
    fleet.submit(*tasks(9), max_micro_usd=dollars(5))
    fleet.end(fleet.out[0], None, tokens=0, status=TaskStatus.TIMEOUT)
    assert fleet.summary().unpriced is None
    assert fleet.summary().assumed_micro_usd == dollars(1)


def test_a_retry_goes_on_with_another_budget(fleet: Fleet) -> None:
    fleet.submit(*tasks(4))
    for lease in list(fleet.out):
        fleet.end(lease, 1.0)
    fleet.store.aggregate(RUN)
    retried = fleet.store.retry(
        RUN, dict.fromkeys(range(4)), 0, None, RunOptions(max_micro_usd=dollars(6.5))
    )
    assert len(fleet.take(retried.admission)) == 2  # 4.00 are spent
    while fleet.out:
        fleet.end(fleet.out[0], 1.0)
    assert fleet.summary().cancel_reason == "budget"
    fleet.store.aggregate(RUN)
    names = dict.fromkeys([2])
    retried = fleet.store.retry(RUN, names, 1, None, RunOptions(max_micro_usd=dollars(20)))
    assert len(fleet.take(retried.admission)) == 1
    (other,) = fleet.store.results(RUN, [3])
    assert other is not None


def test_the_steps_of_a_chain_stop_at_its_budget(fleet: Fleet) -> None:
    fleet.submit(*tasks(4), kind="chain", max_parallel=1, max_micro_usd=dollars(2.1))
    fleet.end(fleet.out[0], 1.0)
    fleet.end(fleet.out[0], 1.0)
    summary = fleet.summary()
    assert (summary.ok, summary.canceled, summary.cancel_reason) == (2, 2, "budget")


# Budgets of a day.


def test_a_day_is_shared_by_runs(fleet: Fleet) -> None:
    fleet.store.set_budgets({"all cost": dollars(3), "estimate cost": dollars(1)})
    fleet.submit(*tasks(2), run="one", user="ann")
    fleet.submit(*tasks(5, max_wait_seconds=60.0), run="two", user="bob")
    assert len(fleet.out) == 3
    while fleet.out:
        fleet.end(fleet.out[0], 1.0)
    assert fleet.summary("two").cancel_reason == "budget"
    assert fleet.summary("two").budget_of == "all"
    assert fleet.reserved("two") == {}
    fleet.submit(*tasks(1), run="three")
    assert fleet.reap() == []
    assert fleet.summary("three").cancel_reason is None  # for ever, tasks wait
    fleet.store.seconds += DAY_SECONDS
    fleet.take(fleet.store.announce("w", {"slots": 99, "queues": ["clinvk.a", "clinvk.b"]}))
    assert [lease.run for lease in fleet.reap()] == ["three"]


def test_queues_and_submitters_have_budgets_of_their_own(fleet: Fleet) -> None:
    fleet.store.set_budgets(
        {"clinvk.a cost": dollars(1), "key * cost": dollars(2), "key bob cost": dollars(3)}
    )
    fleet.submit(*tasks(3, "a", max_wait_seconds=60.0), *tasks(9, "b", max_wait_seconds=60.0))
    assert fleet.indexes() == [0, 3]  # the queue allows one, its user two
    fleet.submit(*tasks(9, "b"), run="bobs", user="bob")
    assert len(fleet.out) == 5
    while fleet.out:
        fleet.end(fleet.out[0], 1.0)
    assert fleet.summary().cancel_reason == "budget"


def test_what_was_used_before_there_was_a_budget_counts(fleet: Fleet) -> None:
    fleet.submit(*tasks(2))
    fleet.end(fleet.out[0], 2.5)
    fleet.store.set_budgets({"all cost": dollars(4)}, {"all cost": dollars(0.5)})
    fleet.end(fleet.out[0], 0.9)
    fleet.submit(*tasks(1, max_wait_seconds=60.0), run="late")
    assert not fleet.out
    fleet.store.set_budgets({"all cost": dollars(8)})
    assert [lease.run for lease in fleet.reap()] == ["late"]
    fleet.store.set_budgets({})
    fleet.submit(*tasks(20), run="free", max_parallel=20)
    assert len(fleet.out) == 21


def test_a_claim_says_what_is_left(fleet: Fleet) -> None:
    fleet.submit(*tasks(2), max_micro_usd=dollars(2.5))
    assert [fleet.claims[lease].left_micro_usd for lease in fleet.out] == [dollars(1.5)] * 2
    fleet.submit(*tasks(1), run="other")
    assert fleet.claims[fleet.out[-1]].left_micro_usd is None


@pytest.mark.parametrize("seed", range(6))
def test_nothing_stays_reserved_and_no_more_is_spent_than_was_in_flight(
    fleet: Fleet, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of tasks, in any order; each may cost many times its estimate."""
    monkeypatch.setattr(leases, "AUDIT_INTERVAL_MS", -1)  # each reap audits
    monkeypatch.setattr(leases, "LEASE_MS", 10**10)
    dice = random.Random(seed)
    fleet.store.set_budgets({"all cost": dollars(12)})
    fleet.submit(
        *tasks(20, retries=9, max_wait_seconds=9.0), max_micro_usd=dollars(8), max_parallel=4
    )
    most_in_flight = 0.0
    while fleet.summary().state == "running":
        if not fleet.out:
            fleet.store.seconds += 5
            fleet.take(fleet.store.admit())
            fleet.reap()
            continue
        lease, cost = dice.choice(fleet.out), dice.choice([0.1, 0.5, 2.0, 3.0])
        most_in_flight = max(most_in_flight, len(fleet.out) * 3.0)
        match dice.randrange(6):
            case 0:
                fleet.lose(lease)
            case 1:
                fleet.out.remove(lease)
                result = used(lease.index, cost, status=TaskStatus.FAILED)
                fleet.take(fleet.store.hold(lease, Hold(delay_ms=0, result=result)).admission)
            case 2:
                fleet.reap()
            case _:
                fleet.end(lease, cost)
    for lease in list(fleet.out):
        fleet.end(lease, 0.1, status=TaskStatus.CANCELED)
    fleet.store.seconds += 5
    fleet.reap()
    assert fleet.reserved() == {}
    assert fleet.summary().state == "done"
    spent = sum(row.spending.micro_usd for row in fleet.store.spending_of(RUN))
    assert fleet.summary().spent_micro_usd == spent
    assert spent <= dollars(8 + most_in_flight)


def test_the_audit_mends_what_is_reserved(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "AUDIT_INTERVAL_MS", -1)
    fleet.store.set_budgets({"all cost": dollars(12)})
    fleet.submit(*tasks(2), max_micro_usd=dollars(8))
    before = fleet.reserved()
    fleet.store.redis.hset(key("reserved", RUN), mapping={"7": "5:5:clinvk.a", "cost": "77"})
    fleet.store.redis.hset(key("all_reserved"), mapping={"all cost": "5", "key x cost": 1})
    fleet.store.redis.hset(key("run", RUN), "spent_cost", "99")
    (repair,) = fleet.store.reap().repairs
    assert "task 7 had reserved" in repair.what
    assert fleet.reserved() == before
    assert fleet.summary().spent_micro_usd == 0


def test_a_queue_is_closed_while_its_day_is_used_up(fleet: Fleet) -> None:
    fleet.store.set_budgets({"clinvk.a cost": dollars(1)})
    fleet.submit(*tasks(1, max_wait_seconds=60.0))
    fleet.end(fleet.out[0], 1.5)
    closed, other = fleet.store.queues()
    assert (closed.limit_in_force, other.limit_in_force) == (0, None)
    assert closed.gate is not None
    assert closed.gate.kind == "budget"
    assert closed.gate.closed_until_ms == (fleet.store.now_ms // 86_400_000 + 1) * 86_400_000
