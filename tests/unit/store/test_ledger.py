"""What each execution used is counted once, whatever becomes of it, and sums agree to the cent."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from clinvk.core.prices import micro_usd
from clinvk.core.spec import RunOptions, TaskResult, TaskSpec, TaskStatus, Try, Usage
from clinvk.core.spending import LOST, Spending, by_backend
from clinvk.store import leases
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import Hold, Lease, LedgerRow

RUN = "20260102-030405-abcdef01"
OWNER = "w/1"
DAY_MS = 86_400_000


def submit(store: Store, *specs: TaskSpec, run: str = RUN, user: str = "ann") -> None:
    store.announce("w", {"slots": 9999, "queues": ["clinvk.a", "clinvk.b"]})
    store.submit(run, specs, RunOptions(max_parallel=99), user=user)


def task(backend: str = "a", **fields: Any) -> TaskSpec:
    return TaskSpec(backend=backend, prompt="x", **fields)


def ended(index: int = 0, cost_usd: float | None = 0.25, **fields: Any) -> TaskResult:
    result = TaskResult(
        index=index,
        status=TaskStatus.OK,
        exit_code=0,
        duration_seconds=0.1,
        usage=Usage(input_tokens=4, output_tokens=2, total_tokens=6),
        cost_usd=cost_usd,
        cost_source="cli",
    )
    return replace(result, **fields)


def claim(store: Store, index: int = 0, dispatch: int = 1) -> Lease:
    lease = Lease(RUN, index, dispatch)
    assert store.claim(lease, OWNER, "n").verdict == "go"
    return lease


def lose(store: Store, lease: Lease, queue: str = "clinvk.a") -> list[int]:
    """Lose a lease; returns how often it was lost in all, where it will not be tried again."""
    store.redis.zadd(key("leases", queue), {str(lease): 1})
    exhausted, *_ = store.call("lose", claim_timeout_ms=1000, losses=[str(lease), "it ended"])
    return [losses for _, losses in exhausted]


def rows(store: Store) -> list[LedgerRow]:
    return store.spending_of(RUN)


def total(store: Store) -> Spending:
    return Spending.sum(row.spending for row in store.spending(0))


def test_an_execution_is_counted_under_its_labels(store: Store) -> None:
    submit(store, task(), task("b", tags=["t", "é"]))
    store.finish(claim(store, 0), ended(0, model="m"))
    store.finish(claim(store, 1), ended(1, None, cost_source="unknown", usage=None))
    day = store.redis.time()[0] * 1000 // DAY_MS
    counts = {"input_tokens": 4, "output_tokens": 2, "total_tokens": 6}
    by_backend = {row.backend: row for row in rows(store)}
    assert by_backend["a"] == LedgerRow(
        run=RUN,
        day=day,
        key="ann",
        backend="a",
        model="m",
        tags=(),
        spending=Spending(executions=1, cli_micro_usd=250_000, **counts),
    )
    assert by_backend["b"].tags == ("t", "é")
    assert by_backend["b"].spending == Spending(executions=1, unknown=1)


def test_what_costs_nothing_is_not_counted(store: Store) -> None:
    submit(store, task())
    store.finish(claim(store), ended(cost_usd=None, cost_source=None))
    assert rows(store) == []
    assert not store.redis.exists(key("ledger", RUN), key("ledgers"))


def test_a_result_that_is_recorded_again_is_counted_once(store: Store) -> None:
    submit(store, task())
    lease = claim(store)
    for _ in range(3):
        assert store.finish(lease, ended()).ok
    assert total(store).cli_micro_usd == 250_000


def test_a_task_that_is_put_back_has_been_paid_for(store: Store) -> None:
    submit(store, task())
    lease = claim(store)
    hold = Hold(delay_ms=0, result=ended(cost_usd=0.1, model="m"))
    assert store.hold(lease, hold).verdict == "held"
    store.hold(lease, hold)
    store.finish(claim(store, 0, 2), ended(model="m"))
    assert total(store) == Spending.of(ended(cost_usd=0.1)) + Spending.of(ended())


def test_a_task_that_cannot_wait_is_counted_with_its_end(store: Store) -> None:
    submit(store, task())
    lease = claim(store)
    later_ms = store.redis.time()[0] * 1000 + DAY_MS
    hold = Hold(signal="window", retry_at_ms=later_ms, max_wait_ms=1000, result=ended())
    assert store.hold(lease, hold).verdict == "over"
    assert rows(store) == []
    store.finish(lease, ended())
    assert total(store) == Spending.of(ended())


def test_what_a_lost_worker_spent_is_not_known(store: Store) -> None:
    submit(store, task(model="m", tags=["t"]))
    lose(store, claim(store))
    store.finish(claim(store, 0, 2), ended(model="m"))
    (row,) = rows(store)
    assert (row.model, row.tags) == ("m", ("t",))
    assert row.spending == LOST + Spending.of(ended())


def test_an_attempt_that_nobody_claimed_has_cost_nothing(store: Store) -> None:
    submit(store, task())
    lose(store, Lease(RUN, 0, 1))
    assert rows(store) == []


def test_a_submitter_that_the_server_knows_is_the_key(store: Store) -> None:
    submit(store, task())
    store.redis.hset(key("run", RUN), "submitter", "ci")
    store.finish(claim(store), ended())
    assert [row.key for row in rows(store)] == ["ci"]


def test_the_ledger_of_a_run_outlives_its_record(store: Store) -> None:
    submit(store, task())
    store.finish(claim(store), ended())
    for name in (key("ledger", RUN), key("ledgers")):
        assert store.redis.pttl(name) > 90 * DAY_MS
    store.aggregate(RUN)
    assert store.redis.pttl(key("ledger", RUN)) > 90 * DAY_MS
    store.redis.delete(key("run", RUN))
    assert total(store).executions == 1


def test_a_ledger_has_a_most_of_rows(store: Store) -> None:
    submit(store, *(task(tags=[f"t{index}"]) for index in range(3)))
    store.finish(claim(store, 0), ended(0))
    store.redis.hset(key("ledger", RUN), mapping={f'[1,"","x","{n}"]': "0" for n in range(1000)})
    for index in (1, 2):
        store.finish(claim(store, index), ended(index))
    found = {row.backend: row.spending for row in rows(store) if row.backend in ("a", "")}
    assert found == {"a": Spending.of(ended()), "": Spending.of(ended()) + Spending.of(ended())}


def test_only_days_since_a_time(store: Store) -> None:
    submit(store, task())
    store.finish(claim(store), ended())
    store.redis.hset(key("ledger", RUN), '[7,"ann","a",""]', str(Spending.of(ended())))
    now_ms = store.redis.time()[0] * 1000
    assert sum(row.spending.executions for row in store.spending(now_ms)) == 1
    assert sum(row.spending.executions for row in store.spending(0)) == 2
    assert list(store.spending(now_ms + 2 * DAY_MS)) == []


def test_runs_whose_ledger_is_gone_leave_the_list(store: Store) -> None:
    store.redis.zadd(key("ledgers"), {"old": 1, "older": 0})
    submit(store, task())
    store.finish(claim(store), ended())
    assert store.redis.zrange(key("ledgers"), 0, -1) == [RUN.encode()]


@pytest.mark.parametrize("field", ["x", "[]", '["a","b","c","d"]', "[1,2]", "\udcff"])
def test_rows_that_cannot_be_read_are_left_out(store: Store, field: str) -> None:
    submit(store, task())
    store.finish(claim(store), ended())
    store.redis.hset(key("ledger", RUN), field.encode("utf-8", "surrogateescape"), "1,2")
    assert len(rows(store)) == 1


def test_damaged_sums_do_not_keep_a_result_out(store: Store) -> None:
    submit(store, task(), task())
    store.finish(claim(store, 0), ended(0))
    for field in store.redis.hkeys(key("ledger", RUN)):
        store.redis.hset(key("ledger", RUN), field, "x,-5,1e999")
    assert store.finish(claim(store, 1), ended(1)).ok
    assert total(store).total_tokens == 6


def test_a_ledger_of_another_type_is_removed_by_the_audit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "AUDIT_INTERVAL_MS", -1)
    submit(store, task())
    store.redis.set(key("ledger", RUN), "x", px=1_000_000)
    assert list(store.spending_of(RUN)) == []
    (repair,) = store.reap().repairs
    assert repair.what == "ledger was a string"
    assert store.finish(claim(store), ended()).ok
    assert total(store).executions == 1


@pytest.mark.parametrize("spec", ["x", "[]", '{"tags": 1}', '{"tags": [1, {}], "model": []}'])
def test_a_forged_spec_does_not_keep_a_task_lost(store: Store, spec: str) -> None:
    submit(store, task(tags=["t"]))
    lease = claim(store)
    store.redis.hset(key("specs", RUN), "0", spec)
    lose(store, lease)
    assert store.redis.hget(key("worker_losses", RUN), "0") == b"1"


def micro_usd_of(results: list[TaskResult]) -> int:
    """What tasks cost by their results."""
    own = [result.cost_usd for result in results]
    return sum(map(micro_usd, own + [each.cost_usd for result in results for each in result.tried]))


class Workers:
    """They run what is in flight, in any order, and what becomes of it is thrown with dice."""

    def __init__(self, store: Store, dice: random.Random) -> None:
        self.store, self.dice = store, dice
        self.tried: dict[int, list[Try]] = {}
        self.calls: list[tuple[Any, ...]] = []

    def work(self) -> bool:
        """Run a task; returns whether there was one."""
        in_flight = self.store.redis.hgetall(key("in_flight", RUN))
        if not in_flight:
            return False
        index = self.dice.choice(sorted(in_flight))
        lease = Lease(RUN, int(index), int(in_flight[index].split(b":")[0]))
        claimed = self.store.claim(lease, OWNER, str(lease))
        cost = self.dice.choice([None, 0.0, 0.000001, 0.1, 0.2, 1.005, 12.345679])
        source = "unknown" if cost is None else self.dice.choice(["cli", "estimated"])
        result = ended(lease.index, cost, cost_source=source, attempts=claimed.attempts)
        tried = self.tried.setdefault(lease.index, [])
        match self.dice.randrange(4):
            case 0:
                for losses in lose(self.store, lease, claimed.queue):
                    lost = TaskResult.lost(lease.index, "its worker ended", losses)
                    self._call(self.store.finish, lease, replace(lost, tried=list(tried)))
            case 1 if len(tried) < 5:
                self._call(self.store.hold, lease, Hold(delay_ms=0, result=result))
                refused = Try(backend="a", usage=result.usage, cost_usd=cost)
                tried.append(replace(refused, cost_source=result.cost_source))
            case _:
                self._call(self.store.finish, lease, replace(result, tried=list(tried)))
        if self.calls:  # an answer was lost: once more
            call, *arguments = self.dice.choice(self.calls)
            call(*arguments)
        return True

    def _call(self, *call: Any) -> None:
        self.calls.append(call)
        call[0](*call[1:])


@pytest.mark.parametrize("seed", range(8))
def test_a_run_its_tasks_and_the_ledger_agree_to_the_cent(store: Store, seed: int) -> None:
    """In any order, with workers that are lost, tasks that are put back, and repeated calls."""
    dice = random.Random(seed)
    tags: list[list[str]] = [[], ["t"], ["t", "u"]]
    submit(store, *(task(dice.choice("ab"), tags=dice.choice(tags)) for _ in range(6)))
    workers = Workers(store, dice)
    while workers.work():
        pass
    results = [result for result in store.results(RUN, range(6)) if result is not None]
    assert len(results) == 6
    ledger = Spending.sum(row.spending for row in rows(store))
    assert ledger.cli_micro_usd + ledger.estimated_micro_usd == micro_usd_of(results)
    used = [each for result in results for _, each in by_backend("a", result)]
    assert ledger == Spending.sum(used) == total(store)
