"""Chains and comparisons on several machines, from the tasks' own record of what ran when."""

from __future__ import annotations

import json
import os
import signal

from tests import harness
from tests.system.fleet.machines import Fleet


def steps(*prompts: str, **options: bool) -> str:
    """Write a chain whose steps go to `one` and `two` in turn."""
    names = ("one", "two")
    whole = [{"backend": names[n % 2], "prompt": prompt} for n, prompt in enumerate(prompts)]
    return json.dumps({"steps": whole} | options)


def test_a_killed_worker_costs_its_step_an_attempt_and_earlier_steps_nothing(fleet: Fleet) -> None:
    doomed = fleet.worker(fleet.machine(), slots=1)
    run = fleet.clinvk("chain", "--detach", stdin=steps("a 0", "b 3", "c 0 {{previous}}"))
    assert run.status == 0, run.stderr
    name = run.stdout.strip()
    harness.wait_until(lambda: fleet.starts() == ["a", "b"], "the second step to begin")
    pid = int(fleet.records()[-1][2])
    os.killpg(doomed.pid, signal.SIGKILL)
    fleet.worker(fleet.machine(), slots=1)
    assert fleet.clinvk("wait", name).status == 0
    assert fleet.starts() == ["a", "b", "b", "c"]
    results = json.loads(fleet.clinvk("results", name, "--json").stdout)["results"]
    assert [(result["status"], result["attempts"]) for result in results] == [
        ("ok", 1),
        ("ok", 2),
        ("ok", 1),
    ]
    assert results[2]["output"] == "c 0 b 3"
    assert not harness.running(pid)


def test_each_step_runs_where_its_backend_is_served(fleet: Fleet) -> None:
    machines = {queue: fleet.machine() for queue in ("one", "two")}
    for queue, machine in machines.items():
        fleet.worker(machine, slots=4, queues=queue, name=queue)
    ended = fleet.clinvk("chain", "--json", "-q", stdin=steps(*(f"s{n} 0.01" for n in range(6))))
    workers = [result["worker"].split("-")[0] for result in json.loads(ended.stdout)["results"]]
    assert workers == ["one", "two"] * 3
    assert fleet.starts() == [f"s{n}" for n in range(6)]
    assert fleet.most_at_once() == 1


def test_a_failed_step_stops_a_chain_over_all_machines(fleet: Fleet) -> None:
    for _ in range(2):
        fleet.worker(fleet.machine(), slots=2)
    ended = fleet.clinvk("chain", "--json", "-q", stdin=steps("a 0", "b fail", "c 0", "d 0"))
    document = json.loads(ended.stdout)
    statuses = [result["status"] for result in document["results"]]
    assert statuses == ["ok", "failed", "canceled", "canceled"]
    assert (ended.status, document["failed_step"]) == (1, 2)
    assert fleet.starts() == ["a", "b"]


def test_a_detached_chain_is_shown_in_its_own_form(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=1)
    fleet.clinvk("queues", "pause", "two")
    run = fleet.clinvk("chain", "--detach", stdin=steps("a 0", "b 0 {{previous}}")).stdout.strip()
    status = ["status", run, "--json"]

    def ended_steps() -> bool:
        return bool(json.loads(fleet.clinvk(*status).stdout)["completed_steps"])

    harness.wait_until(ended_steps, "the first step to end")
    shown = json.loads(fleet.clinvk(*status).stdout)
    del shown["start_time"]
    assert shown == {
        "run_id": run,
        "kind": "chain",
        "state": "running",
        "total_steps": 2,
        "completed_steps": 1,
        "failed_steps": 0,
        "canceled_steps": 0,
        "current_step": 2,
        "stop_on_failure": True,
    }
    assert "\ncurrent_step: 2\n" in fleet.clinvk("status", run).stdout
    (listed,) = json.loads(fleet.clinvk("runs", "--json").stdout)
    assert (listed["run_id"], listed["kind"]) == (run, "chain")
    fleet.clinvk("queues", "resume", "two")
    attached = fleet.clinvk("attach", run)
    lines = attached.stdout.splitlines()
    assert (attached.status, lines[0], lines[2]) == (0, "Running 2 steps...", "Step 1: one")
    assert lines[6:9] == ["Step 2: two", "-" * 60, "b 0 a 0"]
    assert lines[-1].startswith("Total: 2/2 steps completed (")
    as_json = json.loads(fleet.clinvk("attach", run, "--json", "-q").stdout)
    assert [result["step"] for result in as_json["results"]] == [1, 2]
    results = json.loads(fleet.clinvk("results", run, "--json").stdout)
    assert (results["total_steps"], results["results"]) == (2, as_json["results"])
    text = fleet.clinvk("results", run).stdout.splitlines()
    assert text[0].startswith("Step 1: one OK ")
    assert text[1:3] == ["a 0", ""]
    assert text[-1] == "2 of 2 steps have ended"


def test_a_chain_can_be_canceled_from_elsewhere(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=2)
    run = fleet.clinvk("chain", "--detach", stdin=steps("a 0", "b 600", "c 0")).stdout.strip()
    harness.wait_until(lambda: fleet.starts() == ["a", "b"], "the second step to begin")
    assert fleet.clinvk("cancel", run).stdout == f"{run} is canceled\n"
    assert fleet.clinvk("wait", run).status == 1
    shown = json.loads(fleet.clinvk("status", run, "--json").stdout)
    assert (shown["state"], shown["completed_steps"], shown["canceled_steps"]) == ("done", 1, 2)
    assert shown["current_step"] == 0


def test_the_same_key_runs_a_chain_once(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=1)
    submit = ("chain", "--run-key", "k", "--json", "-q")
    first, second = (fleet.clinvk(*submit, stdin=steps("a 0", "b 0")) for _ in range(2))
    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert fleet.starts() == ["a", "b"]
    # The same tasks are another run where they do not wait for each other.
    tasks = steps("a 0", "b 0").replace('"steps"', '"tasks"')
    assert fleet.clinvk("parallel", *submit[1:], stdin=tasks).status == 2


def test_all_backends_are_those_that_are_served(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=2, queues="one,echo")
    ended = fleet.clinvk("compare", "x 0", "--all-backends", "--json", "-q")
    assert json.loads(ended.stdout)["backends"] == ["one"]
    assert ended.stderr.splitlines() == [
        f"warning: skipped {name}: it is not served by a live worker"
        for name in ("claude", "codex", "gemini", "two")
    ]
    refused = fleet.clinvk("compare", "x 0", "--backends", "one,two")
    assert (refused.status, refused.stdout) == (4, "")
    assert refused.stderr.startswith("clinvk: no live worker serves two: start one with ")
    assert fleet.starts() == ["x"]


def test_a_comparison_runs_at_once_and_is_shown_in_its_own_form(fleet: Fleet) -> None:
    for queue in ("one", "two"):
        fleet.worker(fleet.machine(), slots=1, queues=queue, name=queue)
    compare = ("compare", "--backends", "one,two", "--detach")
    long = fleet.clinvk(*compare, "x 600").stdout.strip()
    harness.wait_until(lambda: fleet.starts() == ["x", "x"], "both to run")
    fleet.clinvk("cancel", long)
    run = fleet.clinvk(*compare, "y 0").stdout.strip()
    attached = fleet.clinvk("attach", run)
    assert attached.stdout.startswith("Comparing 2 backends (one, two)...\n\n")
    assert "BACKEND  STATUS  DURATION  MODEL  TOKENS  COST\n" in attached.stdout
    assert json.loads(fleet.clinvk("status", run, "--json").stdout)["kind"] == "compare"
    text = fleet.clinvk("results", run).stdout
    assert text.startswith("one OK ")
    assert text.endswith("\n2 of 2 backends have ended\n")
