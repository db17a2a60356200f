"""`clinvk logs` from outside: of a fleet's run and of a local one, while it goes on and after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from clinvk.cli.main import main
from clinvk.core.spec import ErrorKind, RunOptions, TaskResult, TaskSpec, TaskStatus, Usage
from clinvk.core.steps import StepKind, StepRecord
from clinvk.local import running
from clinvk.runs.celery_client import login_name
from clinvk.store.store import Store
from clinvk.store.types import Lease
from tests import harness
from tests.server import running_server
from tools import schemas

RUN = "20260102-030405-abcdef01"
TIME = "2026-01-02T03:04:05.678Z"


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def run(store: Store) -> Store:
    """A run of three tasks, of which the first two have begun."""
    submit(store, RUN)
    return store


def submit(store: Store, name: str, user: str | None = None) -> None:
    store.announce("w", {"slots": 9, "queues": ["clinvk.a"]})
    specs = [TaskSpec(backend="a", prompt=f"p{i}", id=f"task-{i}") for i in range(3)]
    store.submit(name, specs, RunOptions(), message="@LEASE@", user=user or login_name())
    for index in range(3):
        store.claim(Lease(name, index, 1), "w/1", f"n{index}")


def step(index: int, kind: StepKind, text: str = "", **more: Any) -> StepRecord:
    fields: dict[str, Any] = {"attempt": 1, "time": TIME} | more
    return StepRecord(index=index, kind=kind, text=text, **fields)


def finish(store: Store, index: int, run: str = RUN) -> None:
    done = TaskResult(index=index, status=TaskStatus.OK, exit_code=0, duration_seconds=0.1)
    assert store.finish(Lease(run, index, 1), done).ok
    store.aggregate(run)


STEPS = [
    step(0, StepKind.MESSAGE, "I read \x1b[31mthe tests\x1b[0m\x07 first"),
    step(1, StepKind.TOOL_CALL, "Bash pytest -q", tool="Bash", can_change=True),
    step(1, StepKind.TOOL_RESULT, tool="Bash", ok=False, size_bytes=1234),
    step(0, StepKind.USAGE, usage=Usage(input_tokens=12_000, output_tokens=345)),
    step(0, StepKind.LIMIT, error_kind=ErrorKind.QUOTA, until="2026-01-02T15:00:00Z"),
    step(1, StepKind.RETRY, "retry 1/10: overloaded", delay_seconds=2.0),
    step(1, StepKind.ERROR, "it broke", attempt=2),
]
TEXT = """\
03:04:05 [1] I read the tests  first
03:04:05 [2] Bash pytest -q
03:04:05 [2] Bash: failed, 1.2 KiB
03:04:05 [1] 12.3k tokens
03:04:05 [1] limit: quota until 2026-01-02 15:00
03:04:05 [2] retry 1/10: overloaded, in 2 s
03:04:05 [2] (attempt 2)
03:04:05 [2] error: it broke
"""


Clinvk = Callable[..., harness.Completed]


@pytest.fixture
def clinvk(
    broker_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Clinvk:
    """Run a command against the broker, in this process: that is faster."""

    def run(*arguments: str) -> harness.Completed:
        monkeypatch.setattr(sys, "argv", ["clinvk", *arguments, "--broker", broker_url])
        with pytest.raises(SystemExit) as exit_:
            main()
        printed = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return harness.Completed(exit_.value.code, printed.out, printed.err)

    return run


def test_all_tasks_and_one(run: Store, clinvk: Clinvk) -> None:
    run.record_steps(RUN, STEPS)
    assert clinvk("logs", RUN) == harness.Completed(0, TEXT, "")
    expected = [line.replace("[1] ", "") for line in TEXT.splitlines() if "[1]" in line]
    for task in ("1", "task-0"):
        assert clinvk("logs", RUN, task).stdout.splitlines() == expected


def test_json_lines_are_as_their_schema_says(run: Store, clinvk: Clinvk) -> None:
    run.record_steps(RUN, [*STEPS, step(2, StepKind.EVENT, raw='{"a": "\\u00e9"}')])
    done = clinvk("logs", RUN, "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["sequence"] for entry in found] == list(range(1, 9))
    for entry in found:
        jsonschema.validate(entry, schemas.steps())
    assert found[1] == {
        "index": 1,
        "attempt": 1,
        "sequence": 2,
        "number": 1,
        "time": TIME,
        "kind": "tool_call",
        "text": "Bash pytest -q",
        "tool": "Bash",
        "can_change": True,
    }
    assert found[-1]["raw"] == '{"a": "\\u00e9"}'


@pytest.mark.parametrize("kinds", [["tool_call,error"], ["tool_call", "--kind", "error"]])
def test_some_kinds(run: Store, clinvk: Clinvk, kinds: list[str]) -> None:
    run.record_steps(RUN, STEPS)
    done = clinvk("logs", RUN, "--json", "--kind", *kinds)
    found = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert found == ["tool_call", "error"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            [RUN, "--kind", "tool_cal"],
            'unknown kind "tool_cal", did you mean "tool_call"? (message, ',
        ),
        (["20990101-000000-aaaaaaaa"], "unknown run 20990101-000000-aaaaaaaa"),
        ([RUN, "4"], f"run {RUN} has no task 4: it has 3, from 1"),
        ([RUN, "0"], f"run {RUN} has no task 0"),
        ([RUN, "nobody"], f'run {RUN} has no task with the id "nobody"'),
    ],
)
def test_what_there_is_not(run: Store, clinvk: Clinvk, arguments: list[str], problem: str) -> None:
    done = clinvk("logs", *arguments)
    assert (done.status, done.stdout) == (2, "")
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_broker_and_a_local_run() -> None:
    done = harness.clinvk("logs", RUN)
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith(f"clinvk: no local run {RUN} is here, and there is no broker")


def test_last_is_the_newest_run_of_this_user(run: Store, clinvk: Clinvk) -> None:
    submit(run, "20260102-030405-other000", user="somebody else")
    run.record_steps(RUN, STEPS[1:2])
    assert clinvk("logs", "last").stdout == "03:04:05 [2] Bash pytest -q\n"
    status = clinvk("status", "last", "--json")
    assert json.loads(status.stdout)["run_id"] == RUN


def test_last_where_this_user_has_no_run(store: Store, clinvk: Clinvk) -> None:
    submit(store, RUN, user="somebody else")
    done = clinvk("wait", "last")
    assert (done.status, done.stderr) == (
        2,
        f"clinvk: last: no run of {login_name()} here (clinvk runs lists the runs)\n",
    )


def test_dropped_steps_are_said(run: Store, clinvk: Clinvk) -> None:
    run.record_steps(RUN, [step(0, StepKind.MESSAGE, "a")])
    run.record_steps(RUN, [step(0, StepKind.MESSAGE, "b")], dropped={0: 7})
    lines = clinvk("logs", RUN, "1").stdout.splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["a", "(7 steps were dropped)", "b"]


class Following:
    """A `clinvk logs --follow` that goes on, and its lines as they come."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*harness.CLINVK, "logs", *arguments, "--follow"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def rest(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=harness.TIMEOUT_SECONDS)
        return self.process.returncode, out, err


@pytest.fixture
def following() -> Iterator[Any]:
    found: list[Following] = []

    def start(*arguments: str) -> Following:
        found.append(Following(*arguments))
        return found[-1]

    yield start
    for each in found:
        each.process.kill()
        each.process.communicate()


def test_follow_prints_steps_as_they_come_and_ends_with_the_run(
    run: Store, broker_url: str, following: Any
) -> None:
    follower = following(RUN, "--broker", broker_url)
    run.record_steps(RUN, STEPS[:1])
    assert follower.line().endswith("[1] I read the tests  first\n")
    run.record_steps(RUN, STEPS[1:2])
    assert follower.line().endswith("[2] Bash pytest -q\n")
    for index in range(3):
        finish(run, index)
    assert follower.rest() == (0, "", "")


def test_follow_of_a_task_ends_with_the_task(run: Store, broker_url: str, following: Any) -> None:
    follower = following(RUN, "2", "--broker", broker_url)
    run.record_steps(RUN, STEPS[:2])
    assert follower.line().endswith("Bash pytest -q\n")
    run.record_steps(RUN, [step(1, StepKind.MESSAGE, "done")])
    finish(run, 1)
    status, out, _ = follower.rest()
    assert (status, out) == (0, "03:04:05 done\n")


def test_ctrl_c_ends_a_follower(run: Store, broker_url: str, following: Any) -> None:
    follower = following(RUN, "--broker", broker_url)
    run.record_steps(RUN, STEPS[:1])
    follower.line()
    follower.process.send_signal(signal.SIGINT)
    assert follower.rest() == (130, "", "\n")


def test_a_reader_that_goes_away_is_no_error(run: Store, broker_url: str) -> None:
    run.record_steps(RUN, [step(0, StepKind.MESSAGE, "x" * 500) for _ in range(400)])
    command = f"{sys.executable} -m clinvk logs {RUN} --follow --broker {broker_url} | head -n 1"
    done = harness.clinvk(command=["sh", "-c", command])
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def running_in(directory: Path) -> list[running.RunningRun]:
    """The local runs below a directory: other tests have theirs at the same time."""
    return [run for run in running.running_runs() if str(directory) in run.broker_url]


def test_only_own_directories_are_local_runs(temporary: Path) -> None:
    for mode in (0o700, 0o755):
        directory = temporary / f"clinvk-{mode:o}"
        directory.mkdir(mode=mode)
        directory.chmod(mode)
        (temporary / f"clinvk-link-{mode:o}").symlink_to(directory)
        with running_server(harness.server_program(), directory) as url:
            submit(Store.connect(url), f"{mode:o}")
            (directory / "server.sock").symlink_to(directory / "s.sock")
            assert [run.run for run in running_in(temporary)] == (["700"] if mode == 0o700 else [])
        for path in (*directory.iterdir(), temporary / f"clinvk-link-{mode:o}"):
            path.unlink()
        directory.rmdir()
    if os.geteuid() == 0:  # somebody else's, who could say anything
        directory.mkdir(mode=0o700)
        os.chown(directory, 12345, 12345)
        with running_server(harness.server_program(), directory) as url:
            submit(Store.connect(url), "other")
            (directory / "server.sock").symlink_to(directory / "s.sock")
            assert running_in(temporary) == []
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
