"""Gates: what a queue learns of its provider's limits, in virtual time, on the real scripts."""

from __future__ import annotations

from typing import Any

import pytest

from clinvk.core.history import History
from clinvk.core.spec import (
    ErrorKind,
    RunOptions,
    TaskResult,
    TaskSpec,
    TaskStatus,
    Try,
    backend_of,
)
from clinvk.store import decoding, leases
from clinvk.store.keys import key
from clinvk.store.types import Admission, Claim, Gate, Held, Hold, Lease
from tests.unit.store.test_store import result
from tests.virtual_time import VirtualTimeStore

QUEUE = "clinvk.a"
MINUTE = 60
HOUR = 3600


class Fleet:
    """A fleet on paper, with as many slots as it needs."""

    def __init__(self, client: Any) -> None:
        self.store = VirtualTimeStore(client)
        self.out: list[Lease] = []
        self.claims: dict[Lease, Claim] = {}
        self.entry: dict[str, Any] = {}
        self.serve("clinvk.a", "clinvk.b")

    def serve(self, *queues: str, slots: int = 100) -> list[int]:
        self.entry = {"slots": slots, "queues": queues}
        return self.take(self.store.announce("w", self.entry))

    def submit(self, count: int = 1, run: str = "r", **fields: Any) -> None:
        specs = [TaskSpec(**({"backend": "a", "prompt": "x"} | fields)) for _ in range(count)]
        self.take(self.store.submit(run, specs, RunOptions(max_parallel=1000)).admission)

    def take(self, admission: Admission) -> list[int]:
        """Claim what was dispatched; returns the indexes."""
        assert not admission.failures
        leases = [Lease(each.run, each.index, each.dispatch) for each in admission.dispatched]
        for lease in leases:
            self.claims[lease] = self.store.claim(lease, "w/1", str(lease))
            assert self.claims[lease].verdict == "go"
        self.out += leases
        return [lease.index for lease in leases]

    def end(self, lease: Lease, status: TaskStatus = TaskStatus.OK) -> list[int]:
        self.out.remove(lease)
        return self.take(self.store.finish(lease, result(lease.index, status)).admission)

    def hold(self, lease: Lease, **how: Any) -> Held:
        held = self.store.hold(lease, Hold(**how))
        if held.verdict == "held":
            self.out.remove(lease)
            self.take(held.admission)
        return held

    def later(self, seconds: float) -> list[int]:
        """Let time go by; returns what is dispatched then."""
        self.store.seconds += seconds
        return self.take(self.store.announce("w", self.entry)) + self.take(self.store.admit())

    def in_ms(self, seconds: float) -> int:
        return self.store.now_ms + int(seconds * 1000)

    def limit(self) -> int | None:
        gate = self.gate()
        return gate.limit if gate else None

    def end_all(self) -> None:
        for lease in list(self.out):
            self.end(lease)

    def gate(self, queue: str = QUEUE, model: str = "") -> Gate | None:
        states = {state.name: state for state in self.store.queues()}
        return next((gate for gate in states[queue].gates if gate.model == model), None)


@pytest.fixture
def fleet(redis_client: Any) -> Fleet:
    return Fleet(redis_client)


def test_a_window_limit_closes_the_queue_until_its_reset(fleet: Fleet) -> None:
    fleet.submit(3)
    first = fleet.out[0]
    held = fleet.hold(first, signal="window", retry_at_ms=fleet.in_ms(HOUR), kind="usage_limit")
    assert held.verdict == "held"
    for lease in list(fleet.out):
        fleet.end(lease)
    assert fleet.later(HOUR) == []  # a reset comes late, in practice
    assert fleet.later(80) == [0]


def test_what_nobody_has_claimed_does_not_start_behind_a_closed_gate(fleet: Fleet) -> None:
    fleet.submit(1)
    submitted = fleet.store.submit("late", [TaskSpec(backend="a", prompt="x")], RunOptions())
    (late,) = submitted.admission.dispatched
    fleet.hold(fleet.out[0], signal="window", retry_at_ms=fleet.in_ms(HOUR))
    unclaimed = Lease(late.run, late.index, late.dispatch)
    assert fleet.store.claim(unclaimed, "w/1", "n").verdict == "stale"
    assert fleet.later(HOUR) == []
    while fleet.out or fleet.later(80):
        fleet.end(fleet.out[0])
    for run in ("r", "late"):
        assert fleet.store.summary(run).ok == 1  # type: ignore[union-attr]


def test_after_a_reset_one_task_tries_and_the_others_follow(fleet: Fleet) -> None:
    fleet.submit(20)
    for lease in list(fleet.out):
        fleet.hold(lease, signal="window", retry_at_ms=fleet.in_ms(HOUR))
    assert len(fleet.later(HOUR + 80)) == 1
    assert fleet.later(MINUTE) == []
    assert len(fleet.end(fleet.out[0])) == 2
    assert len(fleet.end(fleet.out[0])) == 3  # the limit is 4 now, and one is running
    while fleet.out:
        fleet.end(fleet.out[0])
    assert fleet.store.summary("r").ok == 20  # type: ignore[union-attr]


def test_a_probe_that_meets_the_limit_again_closes_it_for_longer_each_time(fleet: Fleet) -> None:
    fleet.submit(3)
    for lease in list(fleet.out):
        fleet.hold(lease, signal="window", retry_at_ms=fleet.in_ms(MINUTE))
    fleet.later(MINUTE + 80)
    for minutes in (5, 10, 20, 40, 60, 60):
        (probe,) = fleet.out
        fleet.hold(probe, signal="window")
        assert fleet.later(minutes * MINUTE - 1) == []
        assert len(fleet.later(2)) == 1


def test_a_reset_that_cannot_be_is_not_believed(fleet: Fleet) -> None:
    fleet.submit(2)
    for lease, reset in zip(list(fleet.out), (9 * 24 * HOUR, -HOUR), strict=True):
        fleet.hold(lease, signal="window", retry_at_ms=fleet.in_ms(reset))
    assert len(fleet.later(5 * MINUTE + 1)) == 1


def test_the_later_of_two_resets_counts(fleet: Fleet) -> None:
    fleet.submit(2)
    first, second = fleet.out
    fleet.hold(first, signal="window", retry_at_ms=fleet.in_ms(2 * HOUR))
    fleet.hold(second, signal="window", retry_at_ms=fleet.in_ms(HOUR))
    assert fleet.later(HOUR + 80) == []
    assert len(fleet.later(HOUR)) == 1


def test_a_probe_whose_worker_is_lost_makes_room_for_another(fleet: Fleet) -> None:
    fleet.submit(2)
    for lease in list(fleet.out):
        fleet.hold(lease, signal="window", retry_at_ms=fleet.in_ms(MINUTE))
    fleet.later(MINUTE + 80)
    (probe,) = fleet.out
    fleet.store.release("w/1", probe)
    fleet.out.clear()
    fleet.store.call("lose", claim_timeout_ms=1000, losses=[str(probe), "killed"])
    assert fleet.store.queues()[0].in_flight == 1


def test_fifty_refusals_at_once_are_one_cut(fleet: Fleet) -> None:
    fleet.submit(60)
    fleet.later(2)  # by then all have started
    for lease in fleet.out[:50]:
        fleet.hold(lease, signal="burst", delay_ms=HOUR * 1000)
    gate = fleet.gate()
    assert gate
    assert gate.limit == 45
    fleet.later(2 * HOUR)
    for lease in fleet.out[:50]:
        fleet.end(lease)


def limits_after_refusals(fleet: Fleet) -> list[int]:
    """Have the latest task of each of three rounds be refused."""
    limits = []
    for _ in range(3):
        fleet.later(10)
        fleet.hold(fleet.out[-1], signal="burst", delay_ms=HOUR * 1000)
        limit = fleet.limit()
        assert limit
        limits.append(limit)
        while len(fleet.out) >= limit:
            fleet.end(fleet.out[0])
        assert fleet.later(10)
    return limits


def test_a_task_that_started_after_a_cut_cuts_again(fleet: Fleet) -> None:
    fleet.serve("clinvk.a", slots=20)
    fleet.submit(40)
    assert limits_after_refusals(fleet) == [15, 11, 8]
    while fleet.out or fleet.later(HOUR):
        fleet.end(fleet.out[0])


def test_a_limit_that_has_grown_is_cut_by_little_at_first(fleet: Fleet) -> None:
    fleet.serve("clinvk.a", slots=20)
    fleet.submit(100)
    fleet.store.seconds += 1
    fleet.hold(fleet.out[-1], signal="burst", delay_ms=HOUR * 1000)
    fleet.store.seconds += 1
    fleet.end_all()
    fleet.later(13 * MINUTE)
    fleet.end_all()
    assert fleet.limit() == 16
    fleet.later(10)
    assert limits_after_refusals(fleet) == [15, 13, 10]


def test_after_a_reset_the_limit_doubles_up_to_what_it_was(fleet: Fleet) -> None:
    fleet.serve("clinvk.a", slots=20)
    fleet.submit(100)
    fleet.store.seconds += 1
    fleet.hold(fleet.out[-1], signal="burst", delay_ms=HOUR * 1000)
    assert fleet.limit() == 15
    for lease in list(fleet.out):
        fleet.hold(lease, signal="window", retry_at_ms=fleet.in_ms(MINUTE))
    assert len(fleet.later(MINUTE + 80)) == 1
    most = 0
    for _ in range(40):
        most = max(most, len(fleet.out))
        fleet.end(fleet.out[0])
    assert (most, fleet.limit()) == (15, 15)


def test_after_a_reset_the_limit_doubles_up_to_half_of_what_was_in_flight(fleet: Fleet) -> None:
    fleet.submit(11)
    for lease in list(fleet.out):
        fleet.hold(lease, signal="window", retry_at_ms=fleet.in_ms(MINUTE))
    fleet.submit(97, run="more")
    assert len(fleet.later(MINUTE + 80)) == 1
    limits = []
    for _ in range(8):
        fleet.end(fleet.out[0])
        limits.append(fleet.limit())
        assert len(fleet.out) == limits[-1]
    assert limits == [2, 4, 5, 5, 6, 6, 7, 7]


def test_the_limit_grows_after_a_reset_only_where_all_of_it_is_used(fleet: Fleet) -> None:
    fleet.submit(1)
    fleet.hold(fleet.out[0], signal="window", retry_at_ms=fleet.in_ms(MINUTE))
    for number in range(5):
        fleet.submit(1, run=f"later{number}")
    for _ in range(5):
        fleet.later(MINUTE + 80)
        fleet.end(fleet.out[0])
    limit = fleet.limit()
    fleet.end(fleet.out[0])
    assert fleet.limit() == limit


def test_a_hint_holds_the_task_back(fleet: Fleet) -> None:
    fleet.submit(2)
    fleet.hold(fleet.out[0], signal="burst", delay_ms=30_000)
    assert fleet.later(29) == []
    fleet.end(fleet.out[0])
    assert fleet.later(2) == [0]


def test_a_limit_grows_with_success_until_it_is_forgotten(fleet: Fleet) -> None:
    fleet.serve("clinvk.a", slots=4)
    fleet.submit(40)
    fleet.store.seconds += 1
    fleet.hold(fleet.out[0], signal="burst", delay_ms=0)
    gate = fleet.gate()
    assert gate
    assert gate.limit == 3
    for _ in range(3):
        fleet.later(12 * MINUTE)
        for lease in list(fleet.out):
            fleet.end(lease)
    assert fleet.gate() is None


def test_it_does_not_grow_while_the_provider_is_in_trouble(fleet: Fleet) -> None:
    fleet.serve("clinvk.a", slots=4)
    fleet.submit(40)
    fleet.store.seconds += 1
    fleet.hold(fleet.out[0], signal="burst", delay_ms=0)
    for _ in range(6):
        fleet.later(11 * MINUTE)
        for number, lease in enumerate(list(fleet.out)):
            fleet.end(lease, TaskStatus.TIMEOUT if number == 0 else TaskStatus.OK)
    gate = fleet.gate()
    assert gate
    assert gate.limit == 3


def test_a_model_that_is_limited_does_not_stop_others(fleet: Fleet) -> None:
    fleet.submit(2, model="opus")
    fleet.submit(2, run="other", model="haiku")
    fleet.hold(fleet.out[0], signal="window", model="opus", retry_at_ms=fleet.in_ms(HOUR))
    fleet.submit(2, run="more", model="haiku")
    fleet.submit(2, run="late", model="opus")
    assert [lease.run for lease in fleet.out] == ["r", "other", "other", "more", "more"]
    for lease in list(fleet.out):
        fleet.end(lease)
    assert fleet.later(HOUR) == []
    assert len(fleet.later(80)) == 1  # the probe
    fleet.end(fleet.out[0])
    assert len(fleet.later(10)) == 2
    assert fleet.gate(model="opus") is None


def test_what_has_waited_for_a_model_does_not_start_all_at_once(fleet: Fleet) -> None:
    fleet.submit(30, model="opus")
    for lease in list(fleet.out):
        fleet.hold(lease, signal="window", model="opus", retry_at_ms=fleet.in_ms(HOUR))
    fleet.submit(2, run="other", model="haiku")
    others = list(fleet.out)
    assert len(others) == 2
    (probe,) = fleet.later(HOUR + 80)
    fleet.end(next(lease for lease in fleet.out if lease.index == probe and lease not in others))
    fleet.later(10)
    assert len(fleet.out) == len(others) + 2
    assert fleet.limit() == 4
    fleet.end_all()
    fleet.later(10)
    assert len(fleet.out) == 15  # of the 30 that were in flight


def test_a_task_may_wait_only_so_long(fleet: Fleet) -> None:
    fleet.submit(2)
    held = fleet.hold(
        fleet.out[0],
        signal="window",
        retry_at_ms=fleet.in_ms(HOUR),
        max_wait_ms=15 * MINUTE * 1000,
    )
    assert held.verdict == "over"
    assert held.until_ms >= fleet.in_ms(HOUR)
    assert fleet.out[0] == Lease("r", 0, 1)  # still its own, until its end is recorded
    fleet.end(fleet.out[0], TaskStatus.FAILED)


def test_what_would_wait_too_long_behind_a_closed_gate_is_found(fleet: Fleet) -> None:
    fleet.serve("clinvk.a", slots=1)
    fleet.submit(3, max_wait_seconds=15 * MINUTE)
    fleet.submit(2, run="patient")
    probe = fleet.out[0]
    fleet.hold(probe, signal="window", retry_at_ms=fleet.in_ms(HOUR), kind="usage_limit")
    expired = fleet.store.expired_waits()
    assert {(each.lease.run, each.lease.index) for each in expired} == {("r", n) for n in range(3)}
    assert {each.kind for each in expired} == {"usage_limit"}
    for each in expired:
        recorded = fleet.store.finish(each.lease, result(each.lease.index, TaskStatus.FAILED))
        assert recorded.ok
    assert fleet.store.expired_waits() == []
    summary = fleet.store.summary("r")
    assert summary
    assert summary.failed == 3


def test_a_long_run_is_looked_through_page_by_page_and_then_left_alone(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "WAITS_LIMIT", 2)
    fleet.serve("clinvk.a", slots=1)
    fleet.submit(7, max_wait_seconds=15 * MINUTE)
    fleet.hold(fleet.out[0], signal="window", retry_at_ms=fleet.in_ms(HOUR))
    ended = 0
    while not fleet.store.redis.hexists(key("run", "r"), "looked_at"):
        for each in fleet.store.expired_waits():
            ended += fleet.store.finish(each.lease, result(each.lease.index, TaskStatus.FAILED)).ok
    assert ended == 7


def test_how_long_limits_held_a_task_up_is_counted(fleet: Fleet) -> None:
    fleet.serve("clinvk.a", slots=1)
    fleet.submit(2)
    fleet.store.seconds += 100
    fleet.hold(fleet.out[0], signal="window", retry_at_ms=fleet.in_ms(HOUR))
    fleet.later(2 * HOUR)
    (lease,) = fleet.out
    assert fleet.claims[lease].waited_ms == 2 * HOUR * 1000
    assert fleet.claims[lease].rejections == 1
    fleet.end(lease)
    (other,) = fleet.out
    assert fleet.claims[other].waited_ms == 2 * HOUR * 1000
    assert fleet.claims[other].rejections == 0


def test_what_may_not_wait_for_so_long_goes_on_where_it_may(fleet: Fleet) -> None:
    fleet.submit(1, fallback=["nobody", "b:big"])
    held = fleet.hold(
        fleet.out[0],
        signal="window",
        retry_at_ms=fleet.in_ms(HOUR),
        max_wait_ms=MINUTE * 1000,
        history='{"tried": []}',
        routes=[("clinvk.nobody", ""), ("clinvk.b", "big")],
    )
    assert held.queue == "clinvk.b"
    (lease,) = fleet.out
    claim = fleet.claims[lease]
    assert (claim.queue, claim.model, claim.history) == ("clinvk.b", "big", b'{"tried": []}')
    fleet.end(lease)


def test_what_may_wait_for_so_long_does(fleet: Fleet) -> None:
    fleet.submit(1, fallback=["b"])
    held = fleet.hold(
        fleet.out[0],
        signal="window",
        retry_at_ms=fleet.in_ms(HOUR),
        max_wait_ms=2 * HOUR * 1000,
        routes=[("clinvk.b", "")],
    )
    assert held.queue == QUEUE


def test_what_waits_for_too_long_goes_on_elsewhere(fleet: Fleet) -> None:
    fleet.serve("clinvk.a", "clinvk.b", slots=1)
    fleet.submit(3, max_wait_seconds=MINUTE, fallback=["b"])
    fleet.hold(fleet.out[0], signal="window", retry_at_ms=fleet.in_ms(HOUR))
    expired = fleet.store.expired_waits()
    elsewhere = Hold(delay_ms=None, max_wait_ms=MINUTE * 1000, routes=[("clinvk.b", "")])
    for each in expired:
        held = fleet.store.hold(each.lease, elsewhere)
        assert held.verdict == "held"
        fleet.take(held.admission)
        assert fleet.store.hold(each.lease, elsewhere).verdict == "stale"  # the same again
    assert fleet.store.expired_waits() == []
    while fleet.out:
        assert fleet.claims[fleet.out[0]].queue == "clinvk.b"
        fleet.end(fleet.out[0])
    assert fleet.store.summary("r").ok == 3  # type: ignore[union-attr]


def test_an_end_of_a_wait_that_has_ended_is_refused(fleet: Fleet) -> None:
    fleet.submit(1, max_wait_seconds=MINUTE, fallback=["b"])
    fleet.hold(fleet.out[0], signal="window", retry_at_ms=fleet.in_ms(HOUR))
    (expired,) = fleet.store.expired_waits()
    fleet.take(fleet.store.reopen(QUEUE))
    assert not fleet.store.finish(expired.lease, result(0, TaskStatus.FAILED)).ok
    assert fleet.store.hold(expired.lease, Hold(delay_ms=None)).verdict == "stale"
    fleet.end(fleet.out[0])


def test_one_for_several_backends_can_go_on_at_each_of_them(fleet: Fleet) -> None:
    fleet.submit(1, alternatives=["b"])
    was = fleet.claims[fleet.out[0]].queue
    other = "clinvk.b" if was == QUEUE else QUEUE
    assert fleet.hold(fleet.out[0], delay_ms=None, routes=[(other, "")]).queue == other


def test_no_task_goes_to_a_closed_gate_while_an_open_one_is_left(fleet: Fleet) -> None:
    fleet.submit(1, run="b", backend="b")
    fleet.hold(fleet.out[0], signal="window", retry_at_ms=fleet.in_ms(HOUR))
    fleet.serve("clinvk.a", "clinvk.b", "clinvk.c")
    fleet.submit(1, fallback=["b", "c"])
    held = fleet.hold(fleet.out[0], delay_ms=None, routes=[("clinvk.b", ""), ("clinvk.c", "")])
    assert held.queue == "clinvk.c"


def test_a_task_for_several_backends_takes_the_one_that_is_free(fleet: Fleet) -> None:
    fleet.submit(4, alternatives=["b"])
    assert {fleet.claims[lease].queue for lease in fleet.out} == {"clinvk.a", "clinvk.b"}
    _, events = fleet.store.wait_events("r", "0", 1)
    assert {int(each["index"]): each["backend"] for each in events} == {
        lease.index: backend_of(claim.queue) for lease, claim in fleet.claims.items()
    }
    lease = next(lease for lease in fleet.out if fleet.claims[lease].queue == "clinvk.a")
    fleet.hold(lease, signal="window", retry_at_ms=fleet.in_ms(HOUR))
    again = next(out for out in fleet.out if out.index == lease.index)
    assert fleet.claims[again].queue == "clinvk.b"


def test_an_operator_opens_a_queue_at_once(fleet: Fleet) -> None:
    fleet.submit(2)
    for lease in list(fleet.out):
        fleet.hold(lease, signal="window", retry_at_ms=fleet.in_ms(HOUR))
    assert sorted(fleet.take(fleet.store.reopen(QUEUE))) == [0, 1]
    assert fleet.gate() is None


def test_a_pause_ends_by_itself(fleet: Fleet) -> None:
    fleet.store.limit(QUEUE, paused=1, paused_until=fleet.in_ms(HOUR))
    fleet.submit(1)
    assert fleet.later(HOUR - 1) == []
    assert fleet.later(2) == [0]


def test_a_canceled_run_takes_what_waits_with_it(fleet: Fleet) -> None:
    fleet.submit(2)
    fleet.hold(fleet.out[0], signal="burst", delay_ms=HOUR * 1000)
    canceled = fleet.store.cancel("r", "user")
    assert canceled.unpublished == 1
    fleet.end(fleet.out[0], TaskStatus.CANCELED)
    summary = fleet.store.summary("r")
    assert summary
    assert summary.canceled == 2
    (state,) = [state for state in fleet.store.queues() if state.name == QUEUE]
    assert state.waiting == 0


def test_the_same_put_back_twice_is_one(fleet: Fleet) -> None:
    fleet.submit(1)
    lease = fleet.out[0]
    first = fleet.hold(lease, signal="burst", delay_ms=1000)
    assert first.verdict == "held"
    again = fleet.store.hold(lease, Hold(signal="burst"))
    assert (again.verdict, again.until_ms, again.rejections) == ("held", first.until_ms, 1)
    assert fleet.later(10) == [0]
    assert fleet.store.hold(lease, Hold(signal="burst")).verdict == "held"
    assert fleet.hold(Lease("r", 0, 3)).verdict == "stale"
    fleet.end(fleet.out[0])


def test_another_try_is_no_wait_for_a_limit(fleet: Fleet) -> None:
    fleet.submit(1)
    held = fleet.hold(fleet.out[0], delay_ms=MINUTE * 1000, max_wait_ms=0)
    assert (held.verdict, held.retries, held.rejections) == ("held", 1, 0)
    assert fleet.later(MINUTE) == [0]
    assert fleet.claims[fleet.out[0]].waited_ms == 0
    fleet.end(fleet.out[0])


def test_elsewhere_its_tries_begin_anew(fleet: Fleet) -> None:
    fleet.submit(1, fallback=["b"])
    fleet.hold(fleet.out[0])
    fleet.hold(fleet.out[0], delay_ms=None, routes=[("clinvk.b", "")])
    claim = fleet.claims[fleet.out[0]]
    assert (claim.queue, claim.retries) == ("clinvk.b", 0)


def test_held_tasks_still_count_as_waiting_after_an_audit(fleet: Fleet) -> None:
    fleet.submit(2)
    fleet.hold(fleet.out[0], signal="burst", delay_ms=HOUR * 1000)
    fleet.end(fleet.out[0])
    fleet.store.seconds += MINUTE
    assert fleet.store.reap().repairs == []
    (state,) = [state for state in fleet.store.queues() if state.name == QUEUE]
    assert state.waiting == 1


def test_a_result_of_a_task_that_is_held_counts(fleet: Fleet) -> None:
    fleet.submit(1)
    fleet.hold(fleet.out[0], signal="burst", delay_ms=HOUR * 1000)
    ended: TaskResult = result(0)
    assert fleet.store.finish(Lease("r", 0, 2), ended).is_last


def test_a_limit_is_learned_of_while_its_task_goes_on(fleet: Fleet) -> None:
    fleet.serve("clinvk.a", slots=20)
    fleet.submit(30)
    fleet.store.seconds += 1
    slow = fleet.out[0]
    assert fleet.store.slow_down(slow, "rate_limited", "w@h")
    assert fleet.store.slow_down(slow, "rate_limited", "w@h")  # it knows that
    gate = fleet.gate()
    assert gate
    assert (gate.limit, gate.kind, gate.worker) == (15, "rate_limited", "w@h")
    fleet.end(slow)
    assert not fleet.store.slow_down(slow, "rate_limited", "w@h")


# A task that only one worker can go on with.


def pin(fleet: Fleet, **fields: Any) -> Lease:
    """Submit a task whose session is on worker w, and put it back."""
    spec = TaskSpec(**({"backend": "a", "prompt": "x"} | fields))
    message = "@QUEUE@ @DISPATCH@"
    fleet.take(fleet.store.submit("p", [spec], RunOptions(), message=message).admission)
    (lease,) = fleet.out
    fleet.store.redis.delete("clinvk.a", "clinvk.b")
    fleet.hold(lease, pinned="w", delay_ms=10_000)
    return lease


def messages(fleet: Fleet) -> dict[str, list[bytes]]:
    found = {queue: fleet.store.redis.lrange(queue, 0, -1) for queue in ("clinvk.@w", QUEUE)}
    return {queue: texts for queue, texts in found.items() if texts}


def test_it_goes_to_that_worker(fleet: Fleet) -> None:
    pin(fleet)
    assert fleet.later(10) == [0]
    assert messages(fleet) == {"clinvk.@w": [b"clinvk.a 2"]}
    fleet.end(fleet.out[0])


@pytest.mark.parametrize("how", ["gone", "drains"])
def test_it_waits_for_a_worker_that_is_restarted(fleet: Fleet, how: str) -> None:
    pin(fleet)
    if how == "gone":
        fleet.store.drain("w")
    else:
        fleet.store.announce("w", {**fleet.entry, "draining": True})
    fleet.store.announce("other", {"slots": 9, "queues": [QUEUE]})
    fleet.store.seconds += 14
    assert fleet.take(fleet.store.admit()) == []
    assert fleet.later(10) == [0]
    assert messages(fleet) == {"clinvk.@w": [b"clinvk.a 2"]}
    fleet.end(fleet.out[0])


def test_it_goes_to_any_when_its_worker_is_gone(fleet: Fleet) -> None:
    pin(fleet)
    fleet.store.drain("w")
    for _ in range(40):
        fleet.store.seconds += 10
        fleet.take(fleet.store.announce("other", {"slots": 9, "queues": [QUEUE]}))
    assert [lease.index for lease in fleet.out] == [0]
    assert messages(fleet) == {QUEUE: [b"clinvk.a 2"]}
    fleet.end(fleet.out[0])


@pytest.mark.parametrize("how", ["drained", "silent"])
def test_nothing_stays_in_the_list_of_a_worker_that_is_gone(fleet: Fleet, how: str) -> None:
    pin(fleet)
    assert fleet.later(10) == [0]
    assert "clinvk.@w" in messages(fleet)
    if how == "drained":
        fleet.store.drain("w")
    fleet.store.seconds += 16
    fleet.store.announce("other", {"slots": 9, "queues": [QUEUE]})
    assert "clinvk.@w" not in messages(fleet)
    fleet.end(fleet.out[0])


def test_of_several_backends_it_stays_with_its_own(fleet: Fleet) -> None:
    pin(fleet, alternatives=["b"])
    was = fleet.claims[Lease("p", 0, 1)].queue
    for _ in range(2):
        assert fleet.later(10) == [0]
        claim = fleet.claims[fleet.out[0]]
        assert claim.queue == was
        fleet.hold(fleet.out[0], pinned="w", delay_ms=10_000)
    assert claim.retries == 2
    fleet.later(10)
    fleet.end(fleet.out[0])


def test_canceled_it_is_taken_back(fleet: Fleet) -> None:
    pin(fleet)
    fleet.store.seconds += 11
    fleet.store.announce("w", fleet.entry)
    assert list(fleet.store.cancel("p", "user").published) == [0]
    lease = Lease("p", 0, 2)
    assert fleet.store.claim(lease, "w/1", "n").verdict == "canceled"


def lose(fleet: Fleet, lease: Lease) -> list[int]:
    """Let a worker be lost; returns what is dispatched then."""
    queue = fleet.claims[lease].queue
    fleet.store.redis.zadd(key("leases", queue), {str(lease): 1})
    fleet.out.remove(lease)
    _, admission, _ = fleet.store.call("lose", claim_timeout_ms=1000, losses=[str(lease), "why"])
    return fleet.take(decoding.admission(admission))


def test_what_lost_its_worker_waits_from_then_on(fleet: Fleet) -> None:
    fleet.submit(2)
    refused, lost = fleet.out
    fleet.hold(refused, signal="window", retry_at_ms=fleet.in_ms(3 * HOUR))
    fleet.store.seconds += HOUR  # it runs for so long behind the closed gate
    assert lose(fleet, lost) == []
    fleet.later(2 * HOUR + 80)
    while fleet.out and fleet.out[0].index != lost.index:
        fleet.end(fleet.out[0])
    assert fleet.claims[fleet.out[0]].waited_ms == (2 * HOUR + 80) * 1000


def test_one_that_was_put_back_before_waits_again_when_its_worker_is_lost(fleet: Fleet) -> None:
    fleet.submit(3)
    first, second, third = fleet.out
    fleet.hold(first, signal="burst", delay_ms=MINUTE * 1000)
    fleet.end(third)
    fleet.later(MINUTE)
    again = fleet.out[-1]
    assert fleet.claims[again].waited_ms == MINUTE * 1000
    fleet.hold(second, signal="window", retry_at_ms=fleet.in_ms(HOUR))
    assert lose(fleet, again) == []
    fleet.later(2 * HOUR)
    while fleet.out[0].index != first.index:
        fleet.end(fleet.out[0])
    assert fleet.claims[fleet.out[0]].waited_ms == (2 * HOUR + MINUTE) * 1000


def test_one_for_several_backends_whose_worker_is_lost_may_go_on_at_each(fleet: Fleet) -> None:
    fleet.submit(1, alternatives=["b"])
    was = fleet.claims[fleet.out[0]].queue
    fleet.submit(1, run="other", backend=was.removeprefix("clinvk."))
    fleet.hold(fleet.out[1], signal="window", retry_at_ms=fleet.in_ms(HOUR))
    assert lose(fleet, fleet.out[0]) == [0]
    assert fleet.claims[fleet.out[0]].queue == ({"clinvk.a", "clinvk.b"} - {was}).pop()


def test_a_task_of_a_canceled_run_says_that_it_was_tried(fleet: Fleet) -> None:
    fleet.submit(3)
    refused, lost, fresh = fleet.out
    attempt = Try(backend="a", error="too fast", error_kind=ErrorKind.RATE_LIMITED)
    fleet.hold(
        refused,
        signal="burst",
        delay_ms=HOUR * 1000,
        history=History(tried=[attempt]).to_wire().decode(),
    )
    fleet.serve("clinvk.b")
    lose(fleet, lost)
    lose(fleet, fresh)
    fleet.store.redis.hdel(key("worker_losses", "r"), str(fresh.index))
    fleet.store.cancel("r", "user")
    of_refused, of_lost, of_fresh = fleet.store.never_ended("r", [0, 1, 2])
    assert (of_refused.tried, of_refused.rejections, of_refused.attempts) == ([attempt], 1, 1)
    assert of_refused.error == of_lost.error == "canceled before it was tried again"
    assert (of_lost.attempts, of_lost.cost_source) == (1, "unknown")
    assert of_fresh == TaskResult.never_started(2)


def test_a_queue_without_a_known_limit_begins_slowly(fleet: Fleet) -> None:
    fleet.submit(100)
    assert len(fleet.out) == 32
    assert fleet.later(1) == []
    assert [len(fleet.later(1)), len(fleet.later(2))] == [32, 36]


def test_what_was_in_flight_a_while_ago_may_be_at_once(fleet: Fleet) -> None:
    fleet.submit(64)
    fleet.later(2)
    fleet.end_all()
    fleet.submit(100, "again")
    assert len(fleet.out) == 64
    fleet.later(2)
    fleet.end_all()
    fleet.later(600)
    fleet.submit(100, "later")
    assert len(fleet.out) == 32


def test_a_clock_that_goes_back_holds_up_no_slow_start(fleet: Fleet) -> None:
    fleet.store.seconds = HOUR
    fleet.submit(100)
    fleet.store.seconds = 0
    fleet.later(2)
    fleet.later(2)
    assert len(fleet.out) > 33


def test_a_queue_with_a_limit_starts_at_once_what_that_allows(fleet: Fleet) -> None:
    fleet.store.limit(QUEUE, max_concurrency=80)
    fleet.submit(100)
    assert len(fleet.out) == 80


def test_a_slow_start_says_when_to_come_back_and_why(fleet: Fleet) -> None:
    fleet.submit(40)
    assert fleet.store.admit().retry_after_ms == 2000
    explanation = fleet.store.explain("r")
    assert explanation is not None
    assert [(each.reason, each.count) for each in explanation.pending] == [("rising", 8)]
