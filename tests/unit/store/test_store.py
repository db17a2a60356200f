"""The store's operations. `tests/local/store` runs all of this again over a real server."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import pytest

from clinvk.core.changes import Changes
from clinvk.core.errors import WireError
from clinvk.core.spec import ErrorKind, RunOptions, TaskResult, TaskSpec, TaskStatus
from clinvk.store import runs
from clinvk.store.failure_detector import Server
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import Canceled, Dispatched, Lease

RUN = "20260102-030405-abcdef01"
OWNER = "w/1"


def submit(
    store: Store, backends: str = "a a a a", run: str = RUN, **options: Any
) -> list[Dispatched]:
    """Submit a run to a fleet that has more than enough slots."""
    store.announce("w", {"slots": 9999, "queues": ["clinvk.a", "clinvk.b"]})
    specs = [TaskSpec(backend=name, prompt=f"p{i}") for i, name in enumerate(backends.split())]
    submitted = store.submit(run, specs, RunOptions(**options))
    assert submitted.run == run
    return list(submitted.admission.dispatched)


def result(index: int, status: TaskStatus = TaskStatus.OK) -> TaskResult:
    kind = None if status is TaskStatus.OK else ErrorKind.FAILED
    return TaskResult(
        index=index, status=status, exit_code=0, duration_seconds=0.1, error_kind=kind
    )


def finish(
    store: Store, index: int, status: TaskStatus = TaskStatus.OK, dispatch: int = 1
) -> list[int]:
    recorded = store.finish(Lease(RUN, index, dispatch), result(index, status))
    assert recorded.ok
    return [dispatched.index for dispatched in recorded.admission.dispatched]


def claim(store: Store, index: int, dispatch: int = 1) -> str:
    return store.claim(Lease(RUN, index, dispatch), OWNER, secrets.token_hex(4)).verdict


def renew(store: Store, *leases: Lease, owner: str = OWNER) -> list[Lease]:
    return list(store.renew(owner, "server:1", leases).stop)


def kinds(store: Store) -> list[str]:
    return [event["kind"] for event in store.wait_events(RUN, "0", 10)[1]]


def test_no_more_than_max_parallel_are_handed_out_in_task_order(store: Store) -> None:
    assert submit(store, "a b a b a", max_parallel=2) == [
        Dispatched(RUN, 0, 1, "clinvk.a"),
        Dispatched(RUN, 1, 1, "clinvk.b"),
    ]
    assert claim(store, 0) == claim(store, 1) == "go"
    assert finish(store, 1) == [2]
    assert claim(store, 2) == "go"
    assert finish(store, 0) == [3]
    assert finish(store, 2) == [4]


def test_a_claim_gives_the_spec_once(store: Store) -> None:
    submit(store)
    first = store.claim(Lease(RUN, 0, 1), OWNER, "a")
    assert first.verdict == "go"
    assert TaskSpec.from_wire(first.spec or b"") == TaskSpec(backend="a", prompt="p0")
    assert claim(store, 0) == "stale"


def test_claims_of_what_is_not_out_are_stale(store: Store) -> None:
    submit(store, max_parallel=1)
    assert claim(store, 0, dispatch=2) == "stale"
    assert claim(store, 3) == "stale"
    assert store.claim(Lease("no-such-run", 0, 1), OWNER, "a").verdict == "stale"


def test_an_answer_that_was_lost_can_be_asked_for_again(store: Store) -> None:
    submit(store, "a")
    first = store.claim(Lease(RUN, 0, 1), OWNER, "a")
    assert store.claim(Lease(RUN, 0, 1), OWNER, "a") == first
    assert store.claim(Lease(RUN, 0, 1), OWNER, "another message").verdict == "stale"
    assert store.claim(Lease(RUN, 0, 1), "another/2", "a").verdict == "stale"
    assert store.finish(Lease(RUN, 0, 1), result(0)).ok
    assert store.finish(Lease(RUN, 0, 1), result(0)).ok
    assert kinds(store) == ["started", "finished"]
    assert store.summary(RUN).ok == 1  # type: ignore[union-attr]


def test_a_result_is_recorded_once(store: Store) -> None:
    submit(store, "a")
    claim(store, 0)
    finish(store, 0)
    again = store.finish(Lease(RUN, 0, 1), result(0, TaskStatus.FAILED))
    assert not again.ok
    assert list(store.results(RUN, [0])) == [result(0)]
    assert store.summary(RUN).ok == 1  # type: ignore[union-attr]


def test_the_slot_that_a_result_frees_takes_the_oldest_message_of_its_queues(
    store: Store,
) -> None:
    store.announce("w", {"slots": 9999, "queues": ["clinvk.a", "clinvk.b"]})
    specs = [TaskSpec(backend=name, prompt="p") for name in "aabb"]
    store.submit(RUN, specs, RunOptions(max_parallel=2), message="@LEASE@ in @QUEUE@")
    queues = ["clinvk.b", "clinvk.a"]
    claim(store, 0)
    claim(store, 1)
    first = store.finish(Lease(RUN, 0, 1), result(0), queues)
    assert first.message == ("clinvk.b", f"{RUN}:2:1 in clinvk.b".encode())
    # The same question again, or a refused one, takes nothing; nor does one for no queue.
    assert store.finish(Lease(RUN, 0, 1), result(0), ["clinvk.a"]).message is None
    assert store.finish(Lease(RUN, 1, 2), result(1), ["clinvk.a"]).message is None
    assert store.finish(Lease(RUN, 1, 1), result(1)).message is None
    claim(store, 2)
    second = store.finish(Lease(RUN, 2, 1), result(2), ["clinvk.none", *queues])
    assert second.message == ("clinvk.b", f"{RUN}:3:1 in clinvk.b".encode())
    claim(store, 3)
    third = store.finish(Lease(RUN, 3, 1), result(3), queues)
    assert third.message == ("clinvk.a", f"{RUN}:0:1 in clinvk.a".encode())


def test_a_run_closes_once_and_only_when_all_results_are_in(store: Store) -> None:
    submit(store, "a a")
    claim(store, 0)
    claim(store, 1)
    finish(store, 0)
    assert not store.aggregate(RUN)
    finish(store, 1, TaskStatus.TIMEOUT)
    assert store.aggregate(RUN)
    assert store.aggregate(RUN)
    summary = store.summary(RUN)
    assert summary is not None
    assert (summary.total, summary.ok, summary.timeout) == (2, 1, 1)
    assert summary.ended_ms is not None
    assert summary.ended_ms >= summary.created_ms > 0
    assert kinds(store) == ["started", "started", "finished", "finished", "ended"]


def test_fail_fast_takes_back_all_that_no_worker_has(store: Store) -> None:
    submit(store, "a a a a a", max_parallel=3, fail_fast=True)
    claim(store, 0)
    claim(store, 1)  # 2 is published and not claimed, 3 and 4 are pending
    recorded = store.finish(Lease(RUN, 0, 1), result(0, TaskStatus.FAILED))
    assert recorded.canceled == Canceled(2, [2])
    assert recorded.admission.dispatched == []
    assert claim(store, 2) == "canceled"
    assert renew(store, Lease(RUN, 1, 1)) == [Lease(RUN, 1, 1)]
    finish(store, 1, TaskStatus.CANCELED)
    assert store.aggregate(RUN)
    summary = store.summary(RUN)
    assert summary is not None
    assert (summary.failed, summary.canceled, summary.cancel_reason) == (1, 4, "fail_fast")


def test_without_fail_fast_a_failure_stops_nothing(store: Store) -> None:
    submit(store, "a a", max_parallel=1)
    claim(store, 0)
    assert finish(store, 0, TaskStatus.FAILED) == [1]


def test_cancel_is_told_to_workers_and_happens_once(store: Store) -> None:
    before = store.last_signal()
    submit(store, max_parallel=2)
    claim(store, 0)
    assert store.cancel(RUN, "interrupted") == Canceled(2, [1])
    assert not store.cancel(RUN, "again")
    assert not store.cancel("no-such-run", "x")
    position, runs = store.wait_signals(before, 10)
    assert runs == [RUN]
    assert store.wait_signals(position, 10) == (position, [])
    assert store.last_signal() == position


def test_renewal_keeps_what_is_ours_and_names_what_is_not(store: Store) -> None:
    submit(store)
    claim(store, 0)
    mine, stale = Lease(RUN, 0, 1), Lease(RUN, 0, 7)
    assert renew(store, mine, stale) == [stale]
    assert renew(store, mine, owner="w/2") == [mine]


def test_a_claim_that_the_server_lost_is_made_good_by_its_renewal(store: Store) -> None:
    submit(store, "a")
    assert renew(store, Lease(RUN, 0, 1)) == []  # its record: dispatched, not claimed
    assert claim(store, 0) == "stale"
    assert finish(store, 0) == []


def test_what_an_owner_gives_up_is_handed_out_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "server", lambda _: Server("server", 1, None))
    submit(store, "a a a")
    claim(store, 0)
    claim(store, 1)
    store.claim(Lease(RUN, 2, 1), "w/2", "a")
    assert store.release(OWNER, Lease(RUN, 0, 1), Lease(RUN, 2, 1)) == 1
    assert renew(store, Lease(RUN, 0, 1)) == [Lease(RUN, 0, 1)]
    assert store.reap().admission.dispatched == [Dispatched(RUN, 0, 2, "clinvk.a")]
    assert store.release(OWNER) == 1
    assert store.reap().admission.dispatched == [Dispatched(RUN, 1, 2, "clinvk.a")]
    assert store.reap().admission.dispatched == []


def exhausted(store: Store) -> list[tuple[Lease, int]]:
    """Reap; return the exhausted tasks and how often they were lost."""
    return [(task.lease, task.worker_losses) for task in store.reap().exhausted]


@pytest.mark.usefixtures("no_time")
def test_a_lost_task_is_handed_out_again_and_its_first_worker_is_refused(store: Store) -> None:
    submit(store, "a a a", max_parallel=1)
    claim(store, 0)
    reaped = store.reap()
    assert reaped.admission.dispatched == [Dispatched(RUN, 0, 2, "clinvk.a")]
    assert renew(store, Lease(RUN, 0, 1)) == [Lease(RUN, 0, 1)]
    assert not store.finish(Lease(RUN, 0, 1), result(0)).ok
    assert claim(store, 0, dispatch=1) == "stale"
    assert claim(store, 0, dispatch=2) == "go"
    assert finish(store, 0, dispatch=2) == [1]
    assert kinds(store) == ["started", "lost", "started", "finished"]


@pytest.mark.usefixtures("no_time")
def test_a_message_that_nobody_claimed_is_published_again_without_end(store: Store) -> None:
    submit(store, "a")
    for dispatch in range(2, 10):
        reaped = store.reap()
        assert reaped.exhausted == []
        assert reaped.admission.dispatched == [Dispatched(RUN, 0, dispatch, "clinvk.a")]


@pytest.mark.usefixtures("no_time")
def test_a_task_that_kills_its_workers_ends_as_lost(store: Store) -> None:
    submit(store, "a")
    for dispatch in (1, 2):
        claim(store, 0, dispatch)
        assert store.reap().exhausted == []
    claim(store, 0, 3)
    assert exhausted(store) == exhausted(store) == [(Lease(RUN, 0, 3), 3)]
    finish(store, 0, TaskStatus.LOST, dispatch=3)
    assert store.aggregate(RUN)


@pytest.mark.usefixtures("no_time")
def test_a_task_that_must_not_be_repeated_is_not(store: Store) -> None:
    store.announce("w", {"slots": 9, "queues": ["clinvk.a"]})
    specs = [
        TaskSpec(backend="a", prompt="x", on_worker_lost="fail", max_attempts=2),
        TaskSpec(backend="a", prompt="x", max_attempts=2),
        TaskSpec(backend="a", prompt="x"),
    ]
    store.submit(RUN, specs, RunOptions(max_attempts=1))
    for index in range(3):
        claim(store, index)
    assert exhausted(store) == [(Lease(RUN, 0, 1), 1), (Lease(RUN, 2, 1), 1)]
    claim(store, 1, 2)
    assert (Lease(RUN, 1, 2), 2) in exhausted(store)


@pytest.mark.usefixtures("no_time")
def test_a_task_lost_in_a_canceled_run_is_not_started_again(store: Store) -> None:
    submit(store, "a")
    claim(store, 0)
    store.cancel(RUN, "interrupted")
    assert exhausted(store) == [(Lease(RUN, 0, 1), 1)]
    assert store.reap().admission.dispatched == []


@pytest.mark.usefixtures("no_time")
def test_the_reaper_finds_runs_that_their_chord_did_not_close(store: Store) -> None:
    submit(store, "a")
    claim(store, 0)
    finish(store, 0)
    assert store.reap().complete == [RUN]
    store.aggregate(RUN)
    assert store.reap().complete == []


def test_a_run_of_many_chunks_is_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SUBMIT_CHUNK", 10)
    total = 2 * runs.SUBMIT_CHUNK + 1
    assert len(submit(store, " ".join(["a"] * total), max_parallel=total)) == total


def test_tasks_are_recorded_once_though_an_answer_was_lost(store: Store) -> None:
    call, asked = store.call, []

    def twice(name: str, **arguments: object) -> object:
        asked.append(name)
        if name == "record":
            call(name, **arguments)
        return call(name, **arguments)

    store.call = twice  # type: ignore[method-assign]
    assert [dispatched.index for dispatched in submit(store, "a b a", max_parallel=9)] == [0, 1, 2]
    assert "record" in asked
    assert store.admit().dispatched == []


def test_a_run_that_is_not_there_has_no_summary(store: Store) -> None:
    assert store.summary("no-such-run") is None


def test_a_run_keeps_the_others_in_the_list_however_short_it_is_kept_itself(
    store: Store,
) -> None:
    submit(store, run="long")
    submit(store, run="gone")
    store.redis.zadd(key("runs"), {"long": 1, "gone": 2})  # both long ago
    store.redis.delete(key("run", "gone"))
    submit(store, run="short", keep_seconds=60)
    assert store.redis.zrange(key("runs"), 0, -1) == [b"long", b"short"]
    assert store.redis.pttl(key("runs")) > store.redis.pttl(key("run", "long"))


def test_what_a_waiting_run_needs_is_kept_as_long_as_its_record(store: Store) -> None:
    submit(store, max_parallel=2, keep_seconds=366 * 86400)
    store.limit("clinvk.a", max_concurrency=1)
    submit(store, run="waits", keep_seconds=366 * 86400)
    record_ms = store.redis.pttl(key("run", RUN))
    for name in ("queues", "waiting_queues", "active", "runs"):
        assert store.redis.pttl(key(name)) >= record_ms
    for name in ("queue", "fair_queue", "leases"):
        assert store.redis.pttl(key(name, "clinvk.a")) >= record_ms


def test_a_run_is_kept_while_a_task_of_it_runs(store: Store) -> None:
    submit(store, "a a", max_parallel=1, keep_seconds=3600)
    claim(store, 0)
    keys = list(store.redis.keys(f"*{RUN}*"))
    assert len(keys) > 5
    for name in keys:
        store.redis.pexpire(name, 60_000)
    assert renew(store, Lease(RUN, 0, 1)) == []
    assert [name for name in keys if store.redis.pttl(name) <= 60_000] == []


def test_large_parts_of_changes_are_kept_apart(store: Store) -> None:
    """A patch up to 10 MiB is read with its result; a pack, and a larger patch, by who asks."""
    submit(store, "a a")
    claim(store, 0)
    claim(store, 1)
    patch = "caf\udce9\n" * 50_000
    changes = Changes(
        base="b", start="s", tree="t", patch=patch, patch_bytes=len(patch), pack="p" * 100_000
    )
    assert store.finish(Lease(RUN, 0, 1), replace(result(0), changes=changes)).ok
    assert store.redis.hstrlen(key("results", RUN), "0") < 1000
    (found,) = store.results(RUN, [0])
    assert found is not None
    assert found.changes is not None
    assert (found.changes.patch, found.changes.pack) == (patch, None)
    assert store.load_part(RUN, found.changes, "pack") == changes
    store.redis.delete(key("blob", RUN, "0-1-pack"))
    assert store.load_part(RUN, found.changes, "pack").pack is None
    long = replace(changes, patch_bytes=(10 << 20) + 1)
    store.finish(Lease(RUN, 1, 1), replace(result(1), changes=long))
    (found,) = store.results(RUN, [1])
    assert found is not None
    assert found.changes is not None
    assert found.changes.patch is None
    assert store.load_part(RUN, found.changes, "patch").patch == patch


def test_a_large_output_is_kept_apart_and_read_back_whole(store: Store) -> None:
    submit(store, "a a")
    claim(store, 0)
    large = replace(result(0), output="größer " * 100_000)
    assert store.finish(Lease(RUN, 0, 1), large).ok
    assert list(store.results(RUN, [0, 1])) == [large, None]
    assert store.redis.hstrlen(key("results", RUN), "0") < 1000
    store.redis.delete(key("blob", RUN, "0-1"))
    (gone, _) = store.results(RUN, [0, 1])
    assert gone is not None
    assert (gone.output, gone.warnings) == ("", ["the output is no longer there"])


# Records that somebody else has written.


def test_a_result_that_cannot_be_read_says_so_in_its_place(store: Store) -> None:
    submit(store)
    for index, wire in enumerate([b"garbage", b"null", result(7).to_wire()]):
        store.redis.hset(key("results", RUN), str(index), wire)
    finish(store, 3)
    *unreadable, good = store.results(RUN, range(4))
    assert good == result(3)
    for index, bad in enumerate(unreadable):
        assert bad is not None
        assert (bad.index, bad.status) == (index, TaskStatus.LOST)
        assert str(bad.error).startswith("its result cannot be read: ")


def test_an_output_that_is_no_text_is_not_there(store: Store) -> None:
    submit(store, "a")
    store.redis.hset(key("results", RUN), "0", replace(result(0), output_blob="x").to_wire())
    store.redis.expire(key("results", RUN), 60)
    store.redis.rpush(key("blob", RUN, "x"), "a list")
    store.redis.expire(key("blob", RUN, "x"), 60)
    (found,) = store.results(RUN, [0])
    assert found is not None
    assert (found.output, found.warnings) == ("", ["the output is no longer there"])


def test_a_spec_that_cannot_be_read_keeps_its_place(store: Store) -> None:
    submit(store, "a a")
    store.redis.hset(key("specs", RUN), "0", b'{"v": 1, "backend": 7}')
    unreadable, good = store.specs(RUN, [0, 1])
    assert unreadable is not None
    assert good is not None
    assert (unreadable.name, good.prompt) == ("(unreadable)", "p1")


@pytest.mark.parametrize(
    "fields",
    [
        {"total": "x"},
        {"total": "-1"},
        {"total": "1" + "0" * 100},
        {"ok": b"\xff"},
        {"created_ms": "1" + "0" * 30},
        {"ended_ms": "nan"},
        {"max_parallel": ""},
    ],
)
def test_a_run_that_cannot_be_read_is_told_and_hides_no_other(
    store: Store, fields: dict[str, Any]
) -> None:
    submit(store)
    submit(store, run="other")
    store.redis.hset(key("run", RUN), mapping=fields)
    said: list[str] = []
    assert [run.run_id for run in store.runs(10, said.append)] == ["other"]
    assert [line.partition(":")[0] for line in said] == [f"the record of run {RUN} cannot be read"]
    with pytest.raises(WireError, match=f"the record of run {RUN} cannot be read"):
        store.summary(RUN)


def test_a_run_whose_record_is_something_else_is_told(store: Store) -> None:
    submit(store)
    store.redis.delete(key("run", RUN))
    store.redis.set(key("run", RUN), "text", ex=60)
    said: list[str] = []
    assert store.runs(10, said.append) == []
    assert len(said) == 1


@pytest.mark.parametrize(
    "entry",
    [
        b"garbage",
        b"null",
        b"\xff",
        b"{}",
        b'{"slots": "x", "queues": []}',
        b'{"slots": 1, "queues": "clinvk.a"}',
        b'{"slots": 1e308, "queues": ["clinvk.a"]}',
        b'{"slots": 1, "queues": [1]}',
        b'{"slots": 1, "queues": [], "clis": []}',
        b"[" * 5000,
    ],
)
def test_a_worker_that_cannot_be_read_is_told_and_stops_no_other(
    store: Store, entry: bytes
) -> None:
    store.redis.set(key("worker", "forged"), entry, ex=60)
    store.redis.zadd(key("workers"), {"forged": 1 << 45})
    submit(store, "a")  # announces a worker: the slots of all are counted
    said: list[str] = []
    assert set(store.workers(said.append)) == {"w"}
    assert [line.partition(":")[0] for line in said] == [
        "the record of worker forged cannot be read"
    ]
    (queue, _) = store.queues()
    assert queue.slots == 9999


def test_a_queue_that_cannot_be_read_is_told(store: Store) -> None:
    submit(store, "a")
    store.redis.hset(key("queue", "clinvk.b"), "max_concurrency", "x")
    store.redis.expire(key("queue", "clinvk.b"), 60)
    said: list[str] = []
    assert [queue.name for queue in store.queues(said.append)] == ["clinvk.a"]
    assert len(said) == 1


def test_signals_and_events_that_cannot_be_read_are_passed_over(store: Store) -> None:
    before = store.last_signal()
    store.redis.xadd(key("signals"), {"nonsense": b"\xff"})
    store.redis.expire(key("signals"), 60)
    position, runs_canceled = store.wait_signals(before, 10)
    assert (position != before, runs_canceled) == (True, [])
    submit(store, "a")
    store.redis.xadd(key("events", RUN), {b"\xff": b"\xff"})
    store.redis.expire(key("events", RUN), 60)
    assert len(store.wait_events(RUN, "0", 10)[1]) == 1


def test_a_key_that_stands_for_no_run_is_one_line(store: Store) -> None:
    store.redis.set(key("submitted", "nightly"), "garbage", ex=60)
    with pytest.raises(WireError, match="the record of a run's key cannot be read"):
        store.submitted("nightly")
