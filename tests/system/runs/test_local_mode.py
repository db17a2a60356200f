"""Local mode whose parts are killed: the run goes on, or ends with an error; nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from clinvk.core.errors import BrokerError
from clinvk.core.spec import RunOptions
from tests import harness
from tests.local.test_local_mode import _connect, happened, results, specs, supervisor, workers

pytestmark = pytest.mark.usefixtures("temporary")


def test_a_killed_worker_is_replaced_and_its_task_runs_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    script = f"""
import pathlib, time
path = pathlib.Path({str(started)!r})
if not path.exists():
    path.touch()
    time.sleep(600)
print("second")
"""
    with _connect(script) as client:
        run = client.submit(specs("x"), RunOptions())
        harness.wait_until(started.exists, "the task to start")
        (worker,) = workers()
        worker.kill()
        ended = results(list(happened(run)))
    assert [(result.output, result.attempts) for result in ended] == [("second", 2)]


def test_the_end_of_a_worker_is_nothing_to_what_another_runs(tmp_path: Path) -> None:
    script = f"""
import os, pathlib, sys, time
name = sys.stdin.read()
with open({str(tmp_path / "started")!r}, "a") as log:
    print(name, os.getppid(), file=log)
while not pathlib.Path({str(tmp_path / "go")!r}).exists():
    time.sleep(0.01)
"""
    with _connect(script, slots=8) as client:
        run = client.submit(specs(*"abcdefgh"), RunOptions(max_parallel=8))

        def started() -> list[tuple[str, int]]:
            try:
                lines = (tmp_path / "started").read_text().splitlines()
            except OSError:
                return []
            return [(name, int(parent)) for name, parent in map(str.split, lines)]

        harness.wait_until(lambda: len(started()) == 8, "all tasks to start")
        dead = workers()[0]
        hit = {name for name, parent in started() if parent == dead.pid}
        dead.kill()
        harness.wait_until(lambda: len(started()) == 8 + len(hit), "its tasks to start again")
        (tmp_path / "go").touch()
        ended = results(list(happened(run)))
    assert [result.status for result in ended] == ["ok"] * 8
    assert [result.attempts for result in ended] == [1 + (name in hit) for name in "abcdefgh"]
    assert len(hit) in {4, 8}  # one core, one worker


@pytest.mark.parametrize("slots", [2, 8])
def test_a_killed_supervisor_leaves_nothing(slots: int) -> None:
    with _connect(slots=slots) as client:
        run = client.submit(specs(*["sleep 600"] * 20), RunOptions(max_parallel=slots))
        events = happened(run)
        assert [next(events).kind for _ in range(slots)] == ["started"] * slots
        supervisor().kill()
        with pytest.raises(BrokerError, match="its supervisor was killed by signal 9"):
            list(events)


CLIENT = """
import sys
sys.path.insert(0, {root!r})
from tests.local.test_local_mode import _connect, happened, specs
from clinvk.core.spec import RunOptions
with _connect() as client:
    run = client.submit(specs("sleep 600", "sleep 600"), RunOptions())
    for event in happened(run):
        print(event.kind, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_is_killed_leaves_nothing(number: signal.Signals) -> None:
    root = str(harness.ROOT)
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CLIENT).format(root=root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == "started\n"
    assert client.stdout.readline() == "started\n"
    client.send_signal(number)
    client.wait()
    client.stdout.close()  # and the fixture waits for everything else to be gone


NOT_INSTALLED = """
import importlib.metadata
there = importlib.metadata.Distribution.discover
def discover(**of):
    return (found for found in there(**of) if found.name != "clinvk")
importlib.metadata.Distribution.discover = discover
"""
"""Python runs it at its start: no package of this name is installed."""


def test_a_source_tree_runs_tasks_without_being_installed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NOT_INSTALLED)
    paths = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{harness.ROOT}"}
    task = '{"backend": "echo", "prompt": "hi"}'
    done = harness.clinvk("parallel", "--quiet", stdin=task, env=paths)
    assert (done.status, done.stderr) == (0, "")
