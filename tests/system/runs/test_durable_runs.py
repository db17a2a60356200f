"""Local runs that stay, where something goes wrong: any one killed, records cut short or newer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests import harness
from tests.local.commands.test_durable_runs import Home, home, kill_all, results_of, started, tree

__all__ = ["home"]

pytestmark = pytest.mark.usefixtures("temporary")


def test_a_long_record_becomes_a_snapshot(home: Home) -> None:
    assert home.run("parallel", *home.write(*[f"n{i}-0" for i in range(20)]), "-q").status == 0
    base, end = home.record().aof_files()
    assert base.name.endswith(".base.rdb")
    assert end.stat().st_size == 0
    assert home.json("status", "last")["completed"] == 20
    assert len(home.json("results", "last")["results"]) == 20


def test_a_detached_run_is_canceled(home: Home) -> None:
    run = home.run("parallel", *home.write("a-600", "b-600"), "--detach").stdout.strip()
    harness.wait_until(lambda: len(home.begun()) == 2, "both tasks")
    assert home.run("cancel", run).status == 0
    assert home.run("wait", run).status == 1
    harness.wait_until(lambda: not home.record().is_alive(), "the supervisor to end")


@pytest.mark.parametrize("victim", ["client", "supervisor", "server"])
def test_one_killed_is_an_interrupted_run_that_goes_on(home: Home, victim: str) -> None:
    with started(home, "a-0", "b-1", "c-1", "d-0") as client:
        harness.wait_until(lambda: len(home.begun()) == 3, "three tasks")
        found = tree(client)
        words = {"client": "parallel", "supervisor": "clinvk.local.supervisor", "server": "sock"}
        first = next(p for p in found if words[victim] in " ".join(p.cmdline()))
        first.kill()
        client.wait(harness.TIMEOUT_SECONDS)
        harness.wait_until(lambda: home.json("runs")[0]["state"] == "interrupted", "its end")
    before = home.json("results", "last")["results"]
    document = home.json("resume", "last")
    assert results_of(document) == [(i, "ok", f"did {name}") for i, name in enumerate("abcd")]
    for result in before:
        assert document["results"][result["index"]] == result
        assert home.begun()[result["output"].removeprefix("did ")] == 1


def test_a_second_resume_follows_the_first(home: Home) -> None:
    with started(home, "a-go", "b-0") as client:
        harness.wait_until(lambda: len(home.begun()) == 2, "both tasks")
        kill_all(client)
    both = [
        subprocess.Popen(
            [*harness.CLINVK, "resume", "last", "--json", *home.config],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    harness.wait_until(lambda: home.begun()["a"] == 2, "it to go on")
    home.go()
    documents = [json.loads(each.communicate(timeout=harness.TIMEOUT_SECONDS)[0]) for each in both]
    assert documents[0]["results"] == documents[1]["results"]
    assert home.begun()["a"] == 2  # once before it was interrupted


def test_an_interrupted_run_is_canceled(home: Home) -> None:
    with started(home, "a-600", "b-600", "c-0", max_parallel=1) as client:
        harness.wait_until(lambda: len(home.begun()) == 1, "a task")
        kill_all(client)
    assert home.run("cancel", "last").status == 0
    status = home.json("status", "last")
    assert (status["state"], status["canceled"]) == ("done", 3)


def test_a_task_that_may_not_lose_its_worker_is_lost(home: Home) -> None:
    arguments = home.write("a-600", "b-0", max_parallel=1)
    file = home.folder / "tasks.json"
    tasks = json.loads(file.read_text())
    tasks["tasks"][0]["on_worker_lost"] = "fail"
    file.write_text(json.dumps(tasks))
    client = subprocess.Popen([*harness.CLINVK, "parallel", *arguments, "-q"], text=True)
    harness.wait_until(lambda: len(home.begun()) == 1, "a task")
    kill_all(client)
    done = home.run("resume", "last", "--json")
    assert done.status == 1
    statuses = [each["status"] for each in json.loads(done.stdout)["results"]]
    assert statuses == ["lost", "ok"]
    assert home.begun() == Counter("ab")


def test_a_key_submits_once(home: Home) -> None:
    arguments = [*home.write("a-0", "b-0"), "--run-key", "k", "--json"]
    first, second = (json.loads(home.run("parallel", *arguments).stdout) for _ in range(2))
    assert first["results"] == second["results"]
    assert home.begun() == Counter("ab")
    other = home.run("parallel", *home.write("c-0"), "--run-key", "k")
    assert other.status == 2
    assert "has other tasks or options: use another key" in other.stderr
    home.run("runs", "rm", first["run_id"])
    assert home.run("parallel", *home.write("c-0"), "--run-key", "k").status == 0


def test_a_record_that_was_cut_short_keeps_what_is_whole(home: Home) -> None:
    with started(home, "a-0", "b-600", "c-0", max_parallel=2) as client:
        harness.wait_until(lambda: len(home.finished()) == 2, "two results")
        harness.wait_until(lambda: home.json("status", "last")["completed"] == 2, "them recorded")
        kill_all(client)
    end = home.record().aof_files()[-1]
    with end.open("ab") as stream:
        stream.write(b"*3\r\n$3\r\nSET\r\n$5\r\nhalf")
    done = home.run("results", "last", "--json")
    run = home.record().run_id
    assert f"warning: the record of run {run} was cut short: its last 21 bytes" in done.stderr
    assert len(json.loads(done.stdout)["results"]) == 2
    assert home.run("runs", "rm", run).status == 0


def test_a_record_of_a_newer_version_is_left_alone(home: Home) -> None:
    home.run("parallel", *home.write("a-0"), "-q")
    path = home.record().path / "summary.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    name = path.parent.name
    problem = f"run {name} was recorded by a newer clinvk: use that version\n"
    for command in ("status", "resume", "results"):
        done = home.run(command, name)
        assert (done.status, done.stderr) == (2, f"clinvk: {problem}")
    listed = home.run("runs", "--json")
    assert (json.loads(listed.stdout), listed.stderr) == ([], f"warning: {problem}")


def test_where_nothing_can_be_recorded_a_run_is_as_it_was(home: Home) -> None:
    Path(os.environ["HOME"], ".clinvk").write_text("a file")
    done = home.run("parallel", *home.write("a-0"), "-q")
    assert (done.status, done.stdout[:27]) == (0, "Total: 1 tasks, 1 completed")
    assert done.stderr.startswith("warning: nothing of this run stays once it has ended: ")
    assert done.stderr.count("\n") == 1
    for option in ("--detach", "--run-key=k"):
        refused = home.run("parallel", *home.write("b-0"), option)
        assert refused.status == 2
        assert refused.stderr.startswith(f"clinvk: {option[:9].rstrip('=')}")
    assert home.begun() == Counter("a")


def test_ctrl_c_cancels_and_is_not_an_interruption_of_the_record(home: Home) -> None:
    with started(home, "a-600", "b-0", max_parallel=1) as client:
        harness.wait_until(lambda: len(home.begun()) == 1, "a task")
        client.send_signal(signal.SIGINT)
        assert client.wait(harness.TIMEOUT_SECONDS) == 130
    assert home.json("runs")[0]["state"] == "done"


def test_a_run_that_has_ended_is_there(home: Home) -> None:
    done = home.run("parallel", *home.write("a-0", "b-0"), "--json")
    document = json.loads(done.stdout)
    run = document["run_id"]
    (listed,) = home.json("runs")
    assert (listed["run_id"], listed["state"], listed["completed"]) == (run, "done", 2)
    assert home.json("status", "last") == listed
    assert home.json("results", run)["results"] == document["results"]
    assert home.json("attach", run)["results"] == document["results"]
    stats = home.json("stats", run)
    assert (stats["state"], stats["begun_tasks"], len(stats["workers"])) == ("done", 2, 1)
    assert home.run("wait", run).status == 0
    assert home.run("logs", run).status == 0
    assert home.run("cancel", run).stdout == f"{run} has ended already\n"
    assert home.run("resume", run, "-q").stdout.startswith("Total: 2 tasks, 2 completed")
    assert home.run("runs", "rm", run).stdout == f"{run} is removed\n"
    assert home.json("runs") == []
    assert home.begun() == Counter("ab")


def test_all_killed_at_once_is_an_interrupted_run_that_goes_on(home: Home) -> None:
    with started(home, "a-0", "b-0", "c-0", "d-go", "e-go", "f-0") as client:
        harness.wait_until(
            lambda: len(home.begun()) == 5 and home.json("status", "last")["completed"] == 3,
            "three results",
        )
        kill_all(client)
    (listed,) = home.json("runs")
    assert listed["state"] == "interrupted"
    run = listed["run_id"]
    status = home.json("status", run)
    assert (status["state"], status["completed"], status["running"]) == ("interrupted", 3, 0)
    assert len(home.json("results", run)["results"]) == 3
    for command in ("attach", "wait"):
        done = home.run(command, run)
        assert done.status == 1
        assert f"run {run} was interrupted: clinvk resume {run} goes on with it" in done.stderr
    home.go()
    document = home.json("resume", run)
    assert results_of(document) == [(i, "ok", f"did {name}") for i, name in enumerate("abcdef")]
    assert [each["attempts"] for each in document["results"]] == [1, 1, 1, 2, 2, 1]
    assert document["run_id"] == run
    assert home.begun() == Counter("abcddeef")
    assert home.json("results", run)["results"] == document["results"]
