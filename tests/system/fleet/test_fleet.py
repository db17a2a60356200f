"""What a fleet promises, over several machines, from the tasks' own record of what ran when."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

from clinvk.core.worker_config import BROKER_URL
from tests import harness
from tests.system.fleet.machines import PASSWORD, PASSWORD_IN_URL, Fleet, quick, statuses, tasks


def test_a_queues_limit_holds_over_all_machines(fleet: Fleet) -> None:
    for _ in range(4):
        fleet.worker(fleet.machine(), slots=4)
    assert fleet.clinvk("queues", "set", "one", "--max-concurrency", "3").status == 0
    ended = fleet.clinvk("parallel", "--max-parallel", "100", "--json", "-q", stdin=quick(100))
    assert statuses(ended) == ["ok"] * 100
    assert fleet.most_at_once() == 3
    assert sorted(fleet.starts()) == sorted(f"t{n}" for n in range(100))
    workers = {result["worker"] for result in json.loads(ended.stdout)["results"]}
    assert len(workers) > 1


def test_max_parallel_holds_over_all_machines(fleet: Fleet) -> None:
    for _ in range(3):
        fleet.worker(fleet.machine(), slots=4)
    ended = fleet.clinvk("parallel", "--max-parallel", "5", "--json", "-q", stdin=quick(60))
    assert statuses(ended) == ["ok"] * 60
    assert 1 < fleet.most_at_once() <= 5


def test_a_small_run_does_not_wait_for_a_large_one(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=1)
    fleet.worker(fleet.machine(), slots=1)
    fleet.clinvk("queues", "pause", "one")
    submit = ("parallel", "--detach", "--max-parallel", "50")
    big = fleet.clinvk(*submit, stdin=quick(80, "big")).stdout.strip()
    small = fleet.clinvk(*submit, stdin=tasks("small 0.01")).stdout.strip()
    fleet.clinvk("queues", "resume", "one")
    for run in (small, big):
        assert fleet.clinvk("wait", run).status == 0
    assert len(fleet.starts()) == 81
    # The runs take turns, and two tasks may start at once.
    assert fleet.starts().index("small") <= 2


def test_fail_fast_stops_everything_everywhere(fleet: Fleet) -> None:
    for _ in range(3):
        fleet.worker(fleet.machine(), slots=4)
    prompts = [f"t{n} 600" for n in range(11)] + ["bad fail"] + [f"never{n} 600" for n in range(50)]
    ended = fleet.clinvk(
        *("parallel", "--max-parallel", "12", "--fail-fast", "--json", "-q"), stdin=tasks(*prompts)
    )
    assert ended.status == 1
    assert statuses(ended) == ["canceled"] * 11 + ["failed"] + ["canceled"] * 50
    assert not [name for name in fleet.starts() if name.startswith("never")]
    pids = [int(line[2]) for line in fleet.records()]
    assert not [pid for pid in pids if harness.running(pid)]


def test_workers_may_come_and_go(fleet: Fleet) -> None:
    leaving = fleet.worker(fleet.machine(), slots=2)
    run = fleet.clinvk(
        "parallel",
        "--detach",
        "--max-parallel",
        "20",
        stdin=tasks(*(f"t{n} 0.1" for n in range(40))),
    ).stdout.strip()
    harness.wait_until(lambda: len(fleet.starts()) > 4, "the run to begin")
    fleet.worker(fleet.machine(), slots=2)
    leaving.send_signal(signal.SIGTERM)
    assert leaving.wait() == 0
    assert fleet.clinvk("wait", run).status == 0
    assert sorted(fleet.starts()) == sorted(f"t{n}" for n in range(40))


def test_a_drain_lets_what_runs_end(fleet: Fleet) -> None:
    leaving = fleet.worker(fleet.machine(), slots=1)
    run = fleet.clinvk("parallel", "--detach", stdin=tasks("long 3", "next 0.01")).stdout.strip()
    harness.wait_until(fleet.starts, "the task to begin")
    leaving.send_signal(signal.SIGTERM)
    assert leaving.wait() == 0
    assert [line[0] for line in fleet.records()] == ["start", "end"]
    fleet.worker(fleet.machine(), slots=1)
    assert fleet.clinvk("wait", run).status == 0
    assert fleet.starts() == ["long", "next"]


def test_a_run_outlives_its_client_and_is_shown_again_in_whole(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=2)
    client = subprocess.Popen(
        [*harness.CLINVK, "parallel", "--json"],
        env=fleet.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert client.stdin is not None
    client.stdin.write(tasks(*(f"t{n} 0.3" for n in range(8))).encode())
    client.stdin.close()
    harness.wait_until(lambda: len(fleet.starts()) > 2, "the run to begin")
    client.kill()
    client.wait()
    (run,) = json.loads(fleet.clinvk("runs", "--json").stdout)
    ended = fleet.clinvk("attach", run["run_id"], "--json", "-q")
    assert ended.status == 0
    assert statuses(ended) == ["ok"] * 8
    assert json.loads(ended.stdout)["run_id"] == run["run_id"]
    assert sorted(fleet.starts()) == sorted(f"t{n}" for n in range(8))


def test_ctrl_c_in_an_attached_client_cancels_and_sigquit_detaches(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=2)
    run = fleet.clinvk(
        "parallel", "--detach", stdin=tasks("a 600", "b 600", "c 600")
    ).stdout.strip()
    harness.wait_until(lambda: len(fleet.starts()) == 2, "the run to begin")
    for number, status in ((signal.SIGQUIT, 0), (signal.SIGINT, 130)):
        client = subprocess.Popen(
            [*harness.CLINVK, "attach", run],
            env=fleet.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert client.stdout is not None
        assert client.stdout.readline() == "Running 3 tasks (max 3 parallel)...\n"
        # The header comes before the first event is awaited.
        harness.wait_until(lambda: _waits_for_events(fleet), "it to follow the run")
        client.send_signal(number)
        stdout, stderr = client.communicate()
        assert client.returncode == status, stderr
        assert ("Detached" in stderr) == (number == signal.SIGQUIT)
    assert "3 canceled" in stdout
    assert json.loads(fleet.clinvk("status", run, "--json").stdout)["state"] == "done"


def _waits_for_events(fleet: Fleet) -> bool:
    clients = fleet.store.redis.client_list()
    return any(client["cmd"] == "xread" and client["addr"].startswith("127.") for client in clients)


def test_the_same_key_pays_once(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=2)
    submit = ("parallel", "--run-key", "build-17", "--json", "-q")
    first = fleet.clinvk(*submit, stdin=quick(3))
    second = fleet.clinvk(*submit, stdin=quick(3))
    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert len(fleet.starts()) == 3
    other = fleet.clinvk(*submit, stdin=quick(4))
    assert (other.status, other.stdout) == (2, "")
    assert other.stderr.startswith('clinvk: --run-key "build-17" belongs to run ')


def test_what_nobody_serves_is_told_at_once(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=1, queues="one")
    refused = fleet.clinvk("parallel", stdin=tasks("x 0", backend="two"))
    assert (refused.status, refused.stdout) == (4, "")
    assert refused.stderr.startswith("clinvk: no live worker serves two: start one with ")
    waiting = fleet.clinvk(
        "parallel", "--wait-for-workers", "--detach", stdin=tasks("x 0", backend="two")
    )
    fleet.worker(fleet.machine(), slots=1, queues="two", name="late")
    assert fleet.clinvk("wait", waiting.stdout.strip()).status == 0


def test_pause_resume_and_what_is_shown(fleet: Fleet) -> None:
    fleet.worker(fleet.machine(), slots=2)
    fleet.clinvk("queues", "pause", "one")
    run = fleet.clinvk("parallel", "--detach", stdin=quick(5)).stdout.strip()
    (one, two) = json.loads(fleet.clinvk("queues", "--json").stdout)
    assert (one["queue"], one["paused"], one["waiting"], one["running"]) == ("one", True, 5, 0)
    assert (two["queue"], two["paused"]) == ("two", False)
    assert fleet.starts() == []
    fleet.clinvk("queues", "resume", "one")
    assert fleet.clinvk("wait", run).status == 0
    assert fleet.clinvk("cancel", run).stdout == f"{run} has ended already\n"


def test_celerys_own_command_line_serves_as_well(fleet: Fleet) -> None:
    machine = fleet.machine()
    env = {**fleet.env, BROKER_URL: fleet.url(machine.gateway)}
    backends: dict[str, Any] = json.loads((fleet.folder / "config.json").read_text())
    env["CLINVK_WORKER_CONFIG"] = json.dumps(backends)
    machine.start(
        [
            *harness.PYTHON,
            "-m",
            "celery",
            "-A",
            "workers.app",
            "worker",
            "-Q",
            "clinvk.one",
            "-c",
            "2",
        ],
        env,
        fleet.folder / "celery.log",
    )
    harness.wait_until(fleet.store.workers, "the worker to be known")
    ended = fleet.clinvk("parallel", "--json", "-q", stdin=quick(6))
    assert statuses(ended) == ["ok"] * 6
    assert fleet.most_at_once() == 2


def test_the_password_is_never_shown(fleet: Fleet) -> None:
    worker = fleet.worker(fleet.machine(), slots=1)
    shown = "".join(
        text
        for command in (("workers",), ("queues",), ("runs",), ("config", "show"), ("parallel",))
        for ended in [fleet.clinvk(*command, stdin=quick(1))]
        for text in (ended.stdout, ended.stderr)
    )
    log = "".join(path.read_text() for path in fleet.folder.glob("*.log"))
    assert worker.poll() is None
    for secret in (PASSWORD, PASSWORD_IN_URL):
        assert secret not in shown + log
