"""Nothing is lost and nothing runs twice: workers that die, networks and servers that go away."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests import harness
from tests.system.fleet.machines import Fleet, Machine, quick, statuses, tasks


def begin(fleet: Fleet, stdin: str, *arguments: str) -> str:
    """Submit a run and wait until a task of it has begun."""
    run = fleet.clinvk("parallel", "--detach", *arguments, stdin=stdin).stdout.strip()
    harness.wait_until(fleet.starts, "a task to begin")
    return run


def results(fleet: Fleet, run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(fleet.clinvk("results", run, "--json").stdout)[
        "results"
    ]
    return found


def ran_one_after_the_other(fleet: Fleet) -> bool:
    """Whether no process of a task was there when the next attempt began."""
    pids = [int(line[2]) for line in fleet.records() if line[0] == "start"]
    return not any(harness.running(pid) for pid in pids[:-1])


def test_a_killed_workers_commands_are_ended_and_run_elsewhere(fleet: Fleet) -> None:
    doomed = fleet.worker(fleet.machine(), slots=2)
    run = begin(fleet, tasks("a 600", "b 600"))
    harness.wait_until(lambda: len(fleet.starts()) == 2, "both to begin")
    fleet.worker(fleet.machine(), slots=2)
    doomed.kill()
    harness.wait_until(lambda: len(fleet.starts()) == 4, "both to run elsewhere")
    pids = [int(line[2]) for line in fleet.records()]
    assert [harness.running(pid) for pid in pids] == [False, False, True, True]
    whys = [event["why"] for event in fleet.events(run, "lost")]
    assert whys == ["its worker released it"] * 2
    fleet.clinvk("cancel", run)
    assert fleet.clinvk("wait", run).status == 1
    assert [result["attempts"] for result in results(fleet, run)] == [2, 2]


def test_a_machine_that_dies_whole_is_found_out_by_its_connections(fleet: Fleet) -> None:
    doomed = fleet.worker(fleet.machine(), slots=1)
    run = begin(fleet, tasks("t 3"))
    processes = fleet.of_worker(doomed)
    assert len(processes) == 3  # the supervisor, its worker, the command
    for process in processes:
        process.suspend()  # or one would see another's end
    for process in processes:
        process.kill()
    fleet.worker(fleet.machine(), slots=1)
    assert fleet.clinvk("wait", run).status == 0
    assert [event["why"] for event in fleet.events(run, "lost")] == ["its worker ended"]
    assert [result["attempts"] for result in results(fleet, run)] == [2]


def test_what_must_not_be_repeated_is_lost(fleet: Fleet) -> None:
    doomed = fleet.worker(fleet.machine(), slots=2)
    once = json.dumps({"backend": "one", "prompt": "once 600", "on_worker_lost": "fail"})
    run = begin(fleet, f"{once}\n{tasks('again 2')}")
    harness.wait_until(lambda: len(fleet.starts()) == 2, "both to begin")
    doomed.kill()
    fleet.worker(fleet.machine(), slots=2)
    assert fleet.clinvk("wait", run).status == 1
    first, second = results(fleet, run)
    assert (first["status"], first["error_kind"], first["attempts"]) == ("lost", "lost", 1)
    assert first["error"] == "lost: its worker released it"
    assert (second["status"], second["attempts"]) == ("ok", 2)
    assert sorted(fleet.starts()) == ["again", "again", "once"]


@pytest.mark.timeout(300)
def test_a_worker_that_is_cut_off_stops_before_anybody_else_starts(fleet: Fleet) -> None:
    far = fleet.machine()
    fleet.worker(far, slots=1)
    run = begin(fleet, tasks("t 600"))
    fleet.worker(fleet.machine(), slots=1)
    fleet.cut(far)
    (first,) = (int(line[2]) for line in fleet.records())
    harness.wait_until(lambda: len(fleet.starts()) == 2, "the task to run elsewhere", seconds=150)
    assert ran_one_after_the_other(fleet)
    assert not harness.running(first)
    fleet.mend(far)
    fleet.clinvk("cancel", run)
    assert fleet.clinvk("wait", run).status == 1
    assert len(fleet.starts()) == 2


def test_a_network_that_is_away_for_a_while_costs_nothing(fleet: Fleet) -> None:
    far = fleet.machine()
    fleet.worker(far, slots=2)
    run = begin(fleet, tasks("a 25", "b 25"))
    lease_over = away(fleet, far)
    harness.wait_until(lease_over, "the leases to run out")
    fleet.mend(far)
    assert fleet.clinvk("wait", run).status == 0
    assert sorted(fleet.starts()) == ["a", "b"]


def away(fleet: Fleet, machine: Machine) -> Any:
    """Cut a machine off; returns whether its leases have run out."""
    fleet.cut(machine)

    def over() -> bool:
        seconds, _ = fleet.store.redis.time()
        leases = fleet.store.redis.zrange("clinvk:queue:clinvk.one:leases", 0, -1, withscores=True)
        return bool(leases) and all(score < seconds * 1000 for _, score in leases)

    return over


def wait_for_starts(fleet: Fleet, number: int) -> None:
    harness.wait_until(lambda: len(fleet.starts()) > number, "the run to go on")


def test_a_server_that_crashes_costs_nothing(fleet: Fleet) -> None:
    for _ in range(2):
        fleet.worker(fleet.machine(), slots=4)
    run = begin(fleet, quick(60) + tasks("long 20"), "--max-parallel", "100")
    for started in (3, 30):
        wait_for_starts(fleet, started)
        fleet.kill_server()
        fleet.restart_server()
    assert fleet.clinvk("wait", run).status == 0
    assert sorted(fleet.starts()) == sorted([*(f"t{n}" for n in range(60)), "long"])
    assert [result["attempts"] for result in results(fleet, run)] == [1] * 61


def test_a_second_sigterm_hands_back_what_runs(fleet: Fleet) -> None:
    leaving = fleet.worker(fleet.machine(), slots=2)
    run = begin(fleet, tasks("t 600"))
    leaving.send_signal(signal.SIGTERM)
    harness.wait_until(
        lambda: any(entry.get("draining") for entry in fleet.store.workers().values()),
        "the worker to drain",
    )
    leaving.send_signal(signal.SIGTERM)
    assert leaving.wait() == 0
    assert ran_one_after_the_other(fleet)
    fleet.worker(fleet.machine(), slots=1)
    harness.wait_until(lambda: len(fleet.starts()) == 2, "the task to run elsewhere")
    fleet.clinvk("cancel", run)
    assert fleet.clinvk("wait", run).status == 1


def test_a_server_without_memory_refuses_runs_and_takes_results(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=1)
    run = begin(fleet, tasks("running 2", "waiting 0.01"))
    fleet.store.redis.config_set("maxmemory", "1mb")
    refused = fleet.clinvk("parallel", stdin=tasks("refused 1"))
    assert refused.status == 4
    assert "used memory > 'maxmemory'" in refused.stderr
    assert refused.stderr.count("\n") == 1
    harness.wait_until(lambda: statuses_so_far(fleet, run) == ["ok"], "the result to be taken")
    fleet.store.redis.config_set("maxmemory", "0")
    assert fleet.clinvk("wait", run).status == 0
    assert fleet.starts() == ["running", "waiting"]


def statuses_so_far(fleet: Fleet, run: str) -> list[str]:
    return [result["status"] for result in results(fleet, run)]


def test_a_server_that_is_read_only_for_a_while_costs_nothing(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=1)
    run = begin(fleet, tasks("t 3"))
    fleet.store.redis.replicaof("127.0.0.1", 1)
    refused = fleet.clinvk("parallel", stdin=tasks("refused 1"))
    assert refused.status == 4
    assert "read only replica" in refused.stderr
    harness.wait_until(lambda: len(fleet.records()) == 2, "the task to end")
    fleet.store.redis.replicaof("no", "one")
    assert fleet.clinvk("wait", run).status == 0
    assert fleet.starts() == ["t"]


def test_a_client_goes_on_when_the_server_is_back(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=2)
    client = fleet.watched(tasks(*(f"t{n} 1" for n in range(6))))
    harness.wait_until(lambda: len(fleet.starts()) > 2, "the run to go on")
    fleet.kill_server()
    harness.wait_until(lambda: "retrying" in client.err.read_text(), "the client to notice")
    fleet.restart_server()
    ended = client.ended()
    assert statuses(ended) == ["ok"] * 6
    assert ended.status == 0
    assert ended.stderr.count("the run continues, retrying") == 1
    assert ended.stderr.count("the broker can be reached again") == 1
    assert sorted(fleet.starts()) == sorted(f"t{n}" for n in range(6))


def test_a_cancellation_waits_for_the_server(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=1)
    client = fleet.watched(tasks("t 600", "u 600"))
    harness.wait_until(fleet.starts, "a task to begin")
    fleet.kill_server()
    client.process.send_signal(signal.SIGINT)
    harness.wait_until(lambda: "cannot cancel the run yet" in client.err.read_text(), "the news")
    fleet.restart_server()
    ended = client.ended()
    assert ended.status == 130
    assert statuses(ended) == ["canceled"] * 2
    assert fleet.starts() == ["t"]
