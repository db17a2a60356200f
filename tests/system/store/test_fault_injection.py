"""No script can leave half of its work: every Redis command of every script fails in turn.

The model of `tests/unit/store/model` takes random walks through the states of runs, queues and
workers. Each operation of a walk is asked with its first Redis command failing, then its second,
and so on, until it goes through. After a failure either nothing has changed, or, where the
operation goes on with other runs, everything is in order once it is asked again and runs are
audited.

    FAULT_EXAMPLES=100 python -m pytest -n 0 -s tests/system/store/test_fault_injection.py
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from clinvk.store import failure_detector
from clinvk.store.scripts import Operation, operations
from clinvk.store.store import Store
from tests.unit.store import test_budgets, test_workers
from tests.unit.store.model import record
from tests.unit.store.model.test_machine import QUEUES, Machine, Reaper, time_stands_still

__all__ = ["time_stands_still"]  # a fixture

EXAMPLES = os.environ.get("FAULT_EXAMPLES")

FAULTS = """
local real, count = redis, 0
local fail_at = tonumber(real.call('GET', 'fault:at') or 0)
local redis = {
  call = function(...)
    count = count + 1
    if count == fail_at then
      real.call('SET', 'fault:made', 1)
      error({err = 'FAULT injected'})
    end
    return real.call(...)
  end,
  pcall = real.pcall,
  error_reply = real.error_reply,
}
"""
"""Stands in front of each script: the call that `fault:at` names fails."""

SNAPSHOT = """
local PASSING = {turn = true, last_ms = true, touched_ms = true}  -- may change in vain
local lines = {}
local keys = redis.call('KEYS', 'clinvk*')
table.sort(keys)
for _, key in ipairs(keys) do
  local kind, values = redis.call('TYPE', key).ok, {}
  if kind == 'hash' then
    local fields = redis.call('HGETALL', key)
    for i = 1, #fields, 2 do
      if not PASSING[fields[i]] and string.sub(fields[i], 1, 5) ~= 'turn:'
          and not (fields[i + 1] == '0' and fields[i] ~= 'remaining') then
        values[#values + 1] = fields[i] .. '=' .. fields[i + 1]
      end
    end
    table.sort(values)
  elseif kind == 'list' then
    values = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'zset' then
    values = redis.call('ZRANGEBYSCORE', key, key == 'clinvk:workers' and 2 or '-inf', '+inf')
    table.sort(values)
  elseif kind == 'stream' then
    for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do
      values[#values + 1] = entry[1] .. table.concat(entry[2], ' ')
    end
  elseif kind == 'string' then
    values = {redis.call('GET', key)}
  end
  if #values > 0 and kind ~= 'set' then  -- both sets only say where to look
    lines[#lines + 1] = key .. ': ' .. table.concat(values, ', ')
  end
end
return table.concat(lines, '\\n')
"""


class FaultyStore(Reaper):
    """A store of which each operation fails at each of its commands before it is done.

    Attributes:
        points: by operation, how many of its commands were made to fail, over all states.
        isolated: those after which the operation went on with other runs.
    """

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.points = Counter[str]()
        self.isolated = Counter[str]()
        self._snapshot = client.register_script(SNAPSHOT)
        self._faulty = {
            name: client.register_script(FAULTS + operation.text)
            for name, operation in operations().items()
        }

    def call(self, name: str, **arguments: Any) -> Any:
        operation = operations()[name]
        fail_at = 1
        while self._fails(operation, arguments, fail_at):
            self.points[name] += 1
            fail_at += 1
        return super().call(name, **arguments)

    def _fails(self, operation: Operation, arguments: Mapping[str, Any], fail_at: int) -> bool:
        """Whether there is a command of this number; its failure is tried, and taken back."""
        state, before = self._dump(), self._snapshot()
        self.redis.set("fault:at", fail_at)
        try:
            self._faulty[operation.name](args=operation.arguments(arguments))
        except redis.ResponseError as error:
            if "FAULT injected" not in str(error):
                raise
            assert self._snapshot().decode() == before.decode(), f"{operation.name} {fail_at}"
        self.redis.delete("fault:at")
        if not self.redis.delete("fault:made"):
            self._restore(state)
            return False
        if self._snapshot() != before:
            self.isolated[operation.name] += 1
            self._check_recovery(operation, arguments)
        self._restore(state)
        return True

    def _check_recovery(self, operation: Operation, arguments: Mapping[str, Any]) -> None:
        """Ask again and audit: then everything must be in order."""
        super().call(operation.name, **arguments)
        audit = operations()["reap"].arguments(
            {
                "limit": 0,
                "complete_after_ms": 0,
                "claim_timeout_ms": 1,
                "audit_interval_ms": -1,
                "audit_limit": 99,
            }
        )
        self.redis.evalsha(self.redis.script_load(operations()["reap"].text), 0, *audit)
        runs = [name.decode() for name in self.redis.zrange("clinvk:runs", 0, -1)]
        record.check(record.read(self, runs, QUEUES))

    def _dump(self) -> list[tuple[bytes, int, bytes]]:
        keys = self.redis.keys("clinvk*")
        with self.redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.pttl(key)
                pipeline.dump(key)
            answers = iter(pipeline.execute())
        rows = zip(keys, answers, answers, strict=True)
        return [(key, max(ms, 0), value) for key, ms, value in rows]

    def _restore(self, state: list[tuple[bytes, int, bytes]]) -> None:
        with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.flushdb()
            for key, lifetime_ms, value in state:
                pipeline.restore(key, lifetime_ms, value)
            pipeline.execute()


@pytest.mark.usefixtures("time_stands_still")
@pytest.mark.timeout(0 if EXAMPLES else 300)
def test_no_failure_leaves_half_of_an_operation(
    redis_client: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FaultyStore(redis_client)
    monkeypatch.setattr(failure_detector, "loss_reason", store.loss_reason)
    profile = settings(
        max_examples=int(EXAMPLES or 6),
        stateful_step_count=25,
        phases=[Phase.generate],
        derandomize=EXAMPLES is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    make: Any = partial(Machine, store)
    run_state_machine_as_test(make, settings=profile)
    untried = {name for name in operations() if not store.points[name]}
    # The first write nothing; what the last takes and does not give is asked for again.
    assert untried <= {"explain", "count_running", "steps_since", "take_requests"}, untried
    with capsys.disabled():
        total, isolated = store.points.total(), store.isolated.total()
        print(f"\n{total} faults in {len(store.points)} operations, {isolated} of them isolated")
        for name, count in sorted(store.points.items()):
            print(f"  {name:<14} {count:>7} {store.isolated[name]:>7}")


@pytest.mark.usefixtures("time_stands_still")
@pytest.mark.parametrize(
    "scenario",
    [
        test_budgets.test_what_would_go_over_is_not_started,
        test_budgets.test_what_runs_is_stopped_where_that_is_asked,
        test_budgets.test_a_run_whose_cost_nobody_knows_ends_at_its_first_result,
        test_budgets.test_a_retry_goes_on_with_another_budget,
        test_budgets.test_queues_and_submitters_have_budgets_of_their_own,
        test_budgets.test_what_was_used_before_there_was_a_budget_counts,
    ],
)
def test_nor_where_a_run_comes_to_a_budget(
    redis_client: Any, scenario: Callable[[test_budgets.Fleet], None]
) -> None:
    store = FaultyStore(redis_client)
    scenario(test_budgets.Fleet(store))
    assert store.points["finish"] > 50


@pytest.mark.usefixtures("time_stands_still")
@pytest.mark.parametrize(
    "scenario",
    [
        test_workers.test_a_worker_gets_no_more_than_it_has_slots_for_and_others_are_not_held_up,
        test_workers.test_a_worker_of_another_version_by_now_puts_a_task_back,
        test_workers.test_a_fallback_is_taken_only_where_a_worker_has_what_it_requires,
        test_workers.test_a_session_goes_on_at_its_worker_unless_that_is_another_version_now,
        test_workers.test_a_process_that_is_gone_withdraws_nobody_else,
    ],
)
def test_nor_where_a_run_requires_something(
    redis_client: Any, scenario: Callable[[Store], None]
) -> None:
    store = FaultyStore(redis_client)
    scenario(store)
    assert store.points["announce"] > 10


@pytest.mark.usefixtures("time_stands_still")
def test_nor_where_a_worker_that_is_gone_had_tasks(
    redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FaultyStore(redis_client)
    test_workers.test_what_a_dead_worker_had_goes_to_another_one(store, monkeypatch)
    assert store.points["release"] > 10
