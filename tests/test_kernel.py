"""The verbs, over a real server and over fakeredis: the scripts do the same on both."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from clinvk.core.spec import ErrorKind, Outcome, RunOptions, TaskResult, TaskSpec
from workers import evidence
from workers import kernel as kernel_module
from workers.evidence import Server
from workers.kernel import Canceled, Handout, Kernel, Lease, key

RUN = "20260102-030405-abcdef01"
HOLDER = "w/1"


def submit(
    kernel: Kernel, backends: str = "a a a a", run: str = RUN, **options: int | bool
) -> list[Handout]:
    """Submit a run to a fleet that has more than enough slots."""
    kernel.announce("w", {"slots": 9999, "queues": ["clinvk.a", "clinvk.b"]})
    specs = [TaskSpec(backend=name, prompt=f"p{i}") for i, name in enumerate(backends.split())]
    submitted = kernel.submit(run, specs, RunOptions(**options))  # type: ignore[arg-type]
    assert submitted.run == run
    return list(submitted.admission.handouts)


def result(index: int, status: Outcome = Outcome.OK) -> TaskResult:
    kind = None if status is Outcome.OK else ErrorKind.FAILED
    return TaskResult(
        index=index, status=status, exit_code=0, duration_seconds=0.1, error_kind=kind
    )


def finish(kernel: Kernel, index: int, status: Outcome = Outcome.OK, attempt: int = 1) -> list[int]:
    recorded = kernel.finish(Lease(RUN, index, attempt), result(index, status))
    assert recorded.ok
    return [handout.index for handout in recorded.admission.handouts]


def claim(kernel: Kernel, index: int, attempt: int = 1) -> str:
    return kernel.claim(Lease(RUN, index, attempt), HOLDER, secrets.token_hex(4)).verdict


def renew(kernel: Kernel, *leases: Lease, holder: str = HOLDER) -> list[Lease]:
    return kernel.renew(holder, "server:1", leases)


def kinds(kernel: Kernel) -> list[str]:
    return [event["kind"] for event in kernel.wait_events(RUN, "0", 10)[1]]


def test_no_more_than_max_parallel_are_handed_out_in_task_order(kernel: Kernel) -> None:
    assert submit(kernel, "a b a b a", max_parallel=2) == [
        Handout(RUN, 0, 1, "clinvk.a"),
        Handout(RUN, 1, 1, "clinvk.b"),
    ]
    assert claim(kernel, 0) == claim(kernel, 1) == "go"
    assert finish(kernel, 1) == [2]
    assert claim(kernel, 2) == "go"
    assert finish(kernel, 0) == [3]
    assert finish(kernel, 2) == [4]


def test_a_claim_gives_the_spec_once(kernel: Kernel) -> None:
    submit(kernel)
    first = kernel.claim(Lease(RUN, 0, 1), HOLDER, "a")
    assert first.verdict == "go"
    assert TaskSpec.from_wire(first.spec) == TaskSpec(backend="a", prompt="p0")
    assert claim(kernel, 0) == "stale"


def test_claims_of_what_is_not_out_are_stale(kernel: Kernel) -> None:
    submit(kernel, max_parallel=1)
    assert claim(kernel, 0, attempt=2) == "stale"
    assert claim(kernel, 3) == "stale"
    assert kernel.claim(Lease("no-such-run", 0, 1), HOLDER, "a").verdict == "stale"


def test_an_answer_that_was_lost_can_be_asked_for_again(kernel: Kernel) -> None:
    submit(kernel, "a")
    first = kernel.claim(Lease(RUN, 0, 1), HOLDER, "a")
    assert kernel.claim(Lease(RUN, 0, 1), HOLDER, "a") == first
    assert kernel.claim(Lease(RUN, 0, 1), HOLDER, "another message").verdict == "stale"
    assert kernel.claim(Lease(RUN, 0, 1), "another/2", "a").verdict == "stale"
    assert kernel.finish(Lease(RUN, 0, 1), result(0)).ok
    assert kernel.finish(Lease(RUN, 0, 1), result(0)).ok
    assert kinds(kernel) == ["started", "finished"]
    assert kernel.summary(RUN).ok == 1  # type: ignore[union-attr]


def test_a_result_is_recorded_once(kernel: Kernel) -> None:
    submit(kernel, "a")
    claim(kernel, 0)
    finish(kernel, 0)
    again = kernel.finish(Lease(RUN, 0, 1), result(0, Outcome.FAILED))
    assert not again.ok
    assert list(kernel.results(RUN, [0])) == [result(0)]
    assert kernel.summary(RUN).ok == 1  # type: ignore[union-attr]


def test_the_slot_that_a_result_frees_takes_the_oldest_message_of_its_queues(
    kernel: Kernel,
) -> None:
    kernel.announce("w", {"slots": 9999, "queues": ["clinvk.a", "clinvk.b"]})
    specs = [TaskSpec(backend=name, prompt="p") for name in "aabb"]
    kernel.submit(RUN, specs, RunOptions(max_parallel=2), message="@LEASE@ in @QUEUE@")
    queues = ["clinvk.b", "clinvk.a"]
    claim(kernel, 0)
    claim(kernel, 1)
    first = kernel.finish(Lease(RUN, 0, 1), result(0), queues)
    assert first.message == ("clinvk.b", f"{RUN}:2:1 in clinvk.b".encode())
    # The same question again, or a refused one, takes nothing; nor does one for no queue.
    assert kernel.finish(Lease(RUN, 0, 1), result(0), ["clinvk.a"]).message is None
    assert kernel.finish(Lease(RUN, 1, 2), result(1), ["clinvk.a"]).message is None
    assert kernel.finish(Lease(RUN, 1, 1), result(1)).message is None
    claim(kernel, 2)
    second = kernel.finish(Lease(RUN, 2, 1), result(2), ["clinvk.none", *queues])
    assert second.message == ("clinvk.b", f"{RUN}:3:1 in clinvk.b".encode())
    claim(kernel, 3)
    third = kernel.finish(Lease(RUN, 3, 1), result(3), queues)
    assert third.message == ("clinvk.a", f"{RUN}:0:1 in clinvk.a".encode())


def test_a_run_closes_once_and_only_when_all_results_are_in(kernel: Kernel) -> None:
    submit(kernel, "a a")
    claim(kernel, 0)
    claim(kernel, 1)
    finish(kernel, 0)
    assert not kernel.aggregate(RUN)
    finish(kernel, 1, Outcome.TIMEOUT)
    assert kernel.aggregate(RUN)
    assert kernel.aggregate(RUN)
    summary = kernel.summary(RUN)
    assert summary is not None
    assert (summary.total, summary.ok, summary.timeout) == (2, 1, 1)
    assert summary.ended_ms is not None
    assert summary.ended_ms >= summary.created_ms > 0
    assert kinds(kernel) == ["started", "started", "finished", "finished", "ended"]


def test_fail_fast_takes_back_all_that_no_worker_has(kernel: Kernel) -> None:
    submit(kernel, "a a a a a", max_parallel=3, fail_fast=True)
    claim(kernel, 0)
    claim(kernel, 1)  # 2 is published and not claimed, 3 and 4 are pending
    recorded = kernel.finish(Lease(RUN, 0, 1), result(0, Outcome.FAILED))
    assert recorded.canceled == Canceled(2, [2])
    assert recorded.admission.handouts == []
    assert claim(kernel, 2) == "canceled"
    assert renew(kernel, Lease(RUN, 1, 1)) == [Lease(RUN, 1, 1)]
    finish(kernel, 1, Outcome.CANCELED)
    assert kernel.aggregate(RUN)
    summary = kernel.summary(RUN)
    assert summary is not None
    assert (summary.failed, summary.canceled, summary.cancel_reason) == (1, 4, "fail_fast")


def test_without_fail_fast_a_failure_stops_nothing(kernel: Kernel) -> None:
    submit(kernel, "a a", max_parallel=1)
    claim(kernel, 0)
    assert finish(kernel, 0, Outcome.FAILED) == [1]


def test_cancel_is_told_to_workers_and_happens_once(kernel: Kernel) -> None:
    before = kernel.last_signal()
    submit(kernel, max_parallel=2)
    claim(kernel, 0)
    assert kernel.cancel(RUN, "interrupted") == Canceled(2, [1])
    assert not kernel.cancel(RUN, "again")
    assert not kernel.cancel("no-such-run", "x")
    position, runs = kernel.wait_signals(before, 10)
    assert runs == [RUN]
    assert kernel.wait_signals(position, 10) == (position, [])
    assert kernel.last_signal() == position


def test_renewal_keeps_what_is_ours_and_names_what_is_not(kernel: Kernel) -> None:
    submit(kernel)
    claim(kernel, 0)
    mine, stale = Lease(RUN, 0, 1), Lease(RUN, 0, 7)
    assert renew(kernel, mine, stale) == [stale]
    assert renew(kernel, mine, holder="w/2") == [mine]


def test_a_claim_that_the_server_lost_is_made_good_by_its_renewal(kernel: Kernel) -> None:
    submit(kernel, "a")
    assert renew(kernel, Lease(RUN, 0, 1)) == []  # its record: handed out, not claimed
    assert claim(kernel, 0) == "stale"
    assert finish(kernel, 0) == []


def test_what_a_holder_gives_up_is_handed_out_at_once(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kernel, "server", lambda _: Server("server", 1, None))
    submit(kernel, "a a a")
    claim(kernel, 0)
    claim(kernel, 1)
    kernel.claim(Lease(RUN, 2, 1), "w/2", "a")
    assert kernel.surrender(HOLDER, Lease(RUN, 0, 1), Lease(RUN, 2, 1)) == 1
    assert renew(kernel, Lease(RUN, 0, 1)) == [Lease(RUN, 0, 1)]
    assert kernel.reap().admission.handouts == [Handout(RUN, 0, 2, "clinvk.a")]
    assert kernel.surrender(HOLDER) == 1
    assert kernel.reap().admission.handouts == [Handout(RUN, 1, 2, "clinvk.a")]
    assert kernel.reap().admission.handouts == []


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that have run out as soon as they are given, and whose holders are gone."""
    monkeypatch.setattr(Kernel, "server", lambda _: Server("server", 1, None))
    monkeypatch.setattr(evidence, "why_lost", lambda *_: "its worker ended")
    monkeypatch.setattr(kernel_module, "LEASE_MS", 0)
    monkeypatch.setattr(kernel_module, "HANDOUT_MS", 0)
    monkeypatch.setattr(kernel_module, "COMPLETE_AFTER_MS", 0)


def given_up(kernel: Kernel) -> list[tuple[Lease, int]]:
    """Reap; return the tasks that are given up and how often they were lost."""
    return [(task.lease, task.losses) for task in kernel.reap().given_up]


@pytest.mark.usefixtures("no_time")
def test_a_lost_task_is_handed_out_again_and_its_first_worker_is_refused(kernel: Kernel) -> None:
    submit(kernel, "a a a", max_parallel=1)
    claim(kernel, 0)
    reaped = kernel.reap()
    assert reaped.admission.handouts == [Handout(RUN, 0, 2, "clinvk.a")]
    assert renew(kernel, Lease(RUN, 0, 1)) == [Lease(RUN, 0, 1)]
    assert not kernel.finish(Lease(RUN, 0, 1), result(0)).ok
    assert claim(kernel, 0, attempt=1) == "stale"
    assert claim(kernel, 0, attempt=2) == "go"
    assert finish(kernel, 0, attempt=2) == [1]
    assert kinds(kernel) == ["started", "lost", "started", "finished"]


@pytest.mark.usefixtures("no_time")
def test_a_message_that_nobody_claimed_is_published_again_without_end(kernel: Kernel) -> None:
    submit(kernel, "a")
    for attempt in range(2, 10):
        reaped = kernel.reap()
        assert reaped.given_up == []
        assert reaped.admission.handouts == [Handout(RUN, 0, attempt, "clinvk.a")]


@pytest.mark.usefixtures("no_time")
def test_a_task_that_kills_its_workers_is_given_up(kernel: Kernel) -> None:
    submit(kernel, "a")
    for attempt in (1, 2):
        claim(kernel, 0, attempt)
        assert kernel.reap().given_up == []
    claim(kernel, 0, 3)
    assert given_up(kernel) == given_up(kernel) == [(Lease(RUN, 0, 3), 3)]
    finish(kernel, 0, Outcome.LOST, attempt=3)
    assert kernel.aggregate(RUN)


@pytest.mark.usefixtures("no_time")
def test_a_task_that_must_not_be_repeated_is_not(kernel: Kernel) -> None:
    kernel.announce("w", {"slots": 9, "queues": ["clinvk.a"]})
    specs = [
        TaskSpec(backend="a", prompt="x", on_worker_lost="fail", max_attempts=2),
        TaskSpec(backend="a", prompt="x", max_attempts=2),
        TaskSpec(backend="a", prompt="x"),
    ]
    kernel.submit(RUN, specs, RunOptions(max_attempts=1))
    for index in range(3):
        claim(kernel, index)
    assert given_up(kernel) == [(Lease(RUN, 0, 1), 1), (Lease(RUN, 2, 1), 1)]
    claim(kernel, 1, 2)
    assert (Lease(RUN, 1, 2), 2) in given_up(kernel)


@pytest.mark.usefixtures("no_time")
def test_a_task_lost_in_a_canceled_run_is_not_started_again(kernel: Kernel) -> None:
    submit(kernel, "a")
    claim(kernel, 0)
    kernel.cancel(RUN, "interrupted")
    assert given_up(kernel) == [(Lease(RUN, 0, 1), 1)]
    assert kernel.reap().admission.handouts == []


@pytest.mark.usefixtures("no_time")
def test_the_reaper_finds_runs_that_their_chord_did_not_close(kernel: Kernel) -> None:
    submit(kernel, "a")
    claim(kernel, 0)
    finish(kernel, 0)
    assert kernel.reap().complete == [RUN]
    kernel.aggregate(RUN)
    assert kernel.reap().complete == []


def test_a_run_of_many_chunks_is_whole(kernel: Kernel) -> None:
    total = 2 * kernel_module.SUBMIT_CHUNK + 1
    assert len(submit(kernel, " ".join(["a"] * total), max_parallel=total)) == total


def test_tasks_are_recorded_once_though_an_answer_was_lost(kernel: Kernel) -> None:
    call, asked = kernel._call, []

    def twice(verb: str, *args: object) -> object:
        asked.append(verb)
        if verb == "record":
            call(verb, *args)
        return call(verb, *args)

    kernel._call = twice  # type: ignore[method-assign]
    assert [handout.index for handout in submit(kernel, "a b a", max_parallel=9)] == [0, 1, 2]
    assert "record" in asked
    assert kernel.admit().handouts == []


def test_a_run_that_is_not_there_has_no_summary(kernel: Kernel) -> None:
    assert kernel.summary("no-such-run") is None


def test_a_run_keeps_the_others_in_the_list_however_short_it_is_kept_itself(
    kernel: Kernel,
) -> None:
    submit(kernel, run="long")
    submit(kernel, run="gone")
    kernel.redis.zadd(key("runs"), {"long": 1, "gone": 2})  # both long ago
    kernel.redis.delete(key("run", "gone"))
    submit(kernel, run="short", keep_seconds=60)
    assert kernel.redis.zrange(key("runs"), 0, -1) == [b"long", b"short"]
    assert kernel.redis.pttl(key("runs")) > kernel.redis.pttl(key("run", "long"))


def test_what_a_waiting_run_needs_is_kept_as_long_as_its_record(kernel: Kernel) -> None:
    submit(kernel, max_parallel=2, keep_seconds=366 * 86400)
    kernel.limit("clinvk.a", max_concurrency=1)
    submit(kernel, run="waits", keep_seconds=366 * 86400)
    record_ms = kernel.redis.pttl(key("run", RUN))
    for name in ("queues", "waiting", "runs"):
        assert kernel.redis.pttl(key(name)) >= record_ms
    for name in ("queue", "ring", "leases"):
        assert kernel.redis.pttl(key(name, "clinvk.a")) >= record_ms


def test_a_run_is_kept_while_a_task_of_it_runs(kernel: Kernel) -> None:
    submit(kernel, "a a", max_parallel=1, keep_seconds=3600)
    claim(kernel, 0)
    keys = list(kernel.redis.keys(f"*{RUN}*"))
    assert len(keys) > 5
    for name in keys:
        kernel.redis.pexpire(name, 60_000)
    assert renew(kernel, Lease(RUN, 0, 1)) == []
    assert [name for name in keys if kernel.redis.pttl(name) <= 60_000] == []


def test_a_large_output_is_kept_apart_and_read_back_whole(kernel: Kernel) -> None:
    submit(kernel, "a a")
    claim(kernel, 0)
    large = replace(result(0), output="größer " * 100_000)
    assert kernel.finish(Lease(RUN, 0, 1), large).ok
    assert list(kernel.results(RUN, [0, 1])) == [large, None]
    assert kernel.redis.hstrlen(key("results", RUN), "0") < 1000
    kernel.redis.delete(key("blob", RUN, "0-1"))
    (gone, _) = kernel.results(RUN, [0, 1])
    assert gone is not None
    assert (gone.output, gone.warnings) == ("", ["the output is no longer there"])


def test_a_connection_that_was_closed_while_nothing_was_asked_is_made_again(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_module, "REST_SECONDS", 0.0)
    kernel = Kernel.connect(broker_url, answer_seconds=5.0)  # tries nothing again
    assert kernel.admit().handouts == []
    ((connection, _),) = kernel._idle
    kernel.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert kernel.admit().handouts == []
    assert [idle for idle, _ in kernel._idle] == [connection]


def test_no_more_connections_are_kept_than_are_of_use(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_module, "MOST_IDLE", 2)
    kernel = Kernel.connect(broker_url)
    kernel.admit()
    open_now = [kernel._connection() for _ in range(4)]
    for connection in open_now:
        connection.connect()
        kernel._put_back(connection)
    assert [connection._sock is None for connection in open_now] == [False, False, True, True]
    kernel.close()
    assert [connection._sock is None for connection in open_now] == [True] * 4
