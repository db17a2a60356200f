"""Local mode: the whole road, with a real server and a real worker, and nothing left after."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from clinvk.core.errors import BrokerError
from clinvk.core.spec import RunOptions, TaskResult, TaskSpec, TaskStatus
from clinvk.core.worker_config import WorkerConfig
from clinvk.local import server, start
from clinvk.local.expected import anticipate, discard, take_expected
from clinvk.local.reach import connect
from clinvk.local.records import Records
from clinvk.runs.client import Client, Event, Run
from tests import harness

SCRIPT = """
import sys, time
word, _, argument = sys.stdin.read().partition(" ")
if word == "sleep":
    time.sleep(float(argument))
if word == "fail":
    sys.exit(int(argument))
print(word, argument)
"""


pytestmark = pytest.mark.usefixtures("temporary")


@pytest.fixture
def private(temporary: Path) -> Iterator[Client]:
    with _connect() as client:
        yield client


def _connect(script: str = SCRIPT, slots: int = 4):  # type: ignore[no-untyped-def]
    return connect(
        None,
        worker=WorkerConfig(backends={"py": {"command": [sys.executable, "-c", script]}}),
        queues=["clinvk.py"],
        slots=slots,
        server=harness.server_under_test(),
        records=Records(Path(os.environ["HOME"], "runs")),
    )


def specs(*prompts: str) -> list[TaskSpec]:
    return [TaskSpec(backend="py", prompt=prompt) for prompt in prompts]


def happened(run: Run) -> Iterator[Event]:
    """What happens in a run, less the seconds in which nothing does."""
    return (event for event in run.events() if event.kind != "idle")


def results(events: list[Event]) -> list[TaskResult]:
    """One result for each index, in order; that is what the stream promises."""
    found = [event.result for event in events if event.result is not None]
    assert sorted(result.index for result in found) == list(range(len(found)))
    assert events[-1].kind == "ended"
    return sorted(found, key=lambda result: result.index)


def test_ordered_results_of_a_run(private: Client) -> None:
    run = private.submit(specs("one", "sleep 0.3", "fail 3", "four"), RunOptions(max_parallel=4))
    ended = results(list(happened(run)))
    assert [result.status for result in ended] == ["ok", "ok", "failed", "ok"]
    assert [result.output for result in ended] == ["one ", "sleep 0.3", None, "four "]
    assert ended[2].exit_code == 3
    summary = run.summary()
    assert (summary.ok, summary.failed, summary.ended_ms is not None) == (3, 1, True)


def test_a_watcher_that_comes_late_sees_the_whole_run(private: Client) -> None:
    run = private.submit(specs("one", "two"), RunOptions())
    first = list(happened(run))
    assert list(happened(run)) == first


def test_no_more_than_max_parallel_run_at_once(private: Client) -> None:
    run = private.submit(specs(*["sleep 0.05"] * 12), RunOptions(max_parallel=2))
    running, most = 0, 0
    for event in happened(run):
        running += {"started": 1, "finished": -1, "ended": 0}[event.kind]
        most = max(most, running)
    assert most == 2


def test_fail_fast_stops_what_runs_and_starts_nothing_new(private: Client) -> None:
    run = private.submit(
        specs("sleep 600", "sleep 600", "fail 1", *["never"] * 20),
        RunOptions(max_parallel=3, fail_fast=True),
    )
    events = list(happened(run))
    ended = results(events)
    assert [result.status for result in ended] == ["canceled"] * 2 + ["failed"] + ["canceled"] * 20
    assert {event.index for event in events if event.kind == "started"} == {0, 1, 2}
    summary = run.summary()
    assert (summary.failed, summary.canceled, summary.cancel_reason) == (1, 22, "fail_fast")


def test_a_canceled_run_ends_with_a_result_for_each_task(private: Client) -> None:
    run = private.submit(specs("sleep 600", "never"), RunOptions(max_parallel=1))
    events = []
    for event in happened(run):
        events.append(event)
        if event.kind == "started":
            run.cancel("interrupted")
    assert [result.status for result in results(events)] == [TaskStatus.CANCELED] * 2
    assert [result.exit_code for result in results(events)] == [-1, -1]


def test_a_run_canceled_before_a_worker_is_up_ends(private: Client) -> None:
    run = private.submit(specs("a", "b", "c"), RunOptions(max_parallel=3))
    run.cancel("interrupted")
    ended = results(list(happened(run)))
    assert len(ended) == 3
    assert run.summary().canceled_run


def supervisor() -> psutil.Process:
    """The supervisor, which the workers are forked from.

    It may just have been started: the kernel lets whoever starts a program go on before it shows
    the program's command line.
    """
    word = "clinvk.local.supervisor"
    harness.wait_until(lambda: processes(word), "the supervisor to be seen")
    return min(processes(word), key=psutil.Process.create_time)


def workers() -> list[psutil.Process]:
    """The workers that the supervisor has."""
    return [
        child for child in supervisor().children() if "clinvk.local.supervisor" in child.cmdline()
    ]


def processes(word: str) -> list[psutil.Process]:
    """The processes of the local fleet with this word in their command line."""
    return [p for p in harness.of_directory(os.environ["TMPDIR"]) if word in " ".join(p.cmdline())]

    # and the fixture waits for everything else to be gone


def test_what_was_got_ready_is_used(temporary: Path) -> None:
    anticipate([])
    ready = supervisor()
    with _connect() as client:
        assert supervisor() == ready
        assert len(results(list(happened(client.submit(specs("x"), RunOptions()))))) == 1
    assert list(temporary.iterdir()) == []


def test_what_was_got_ready_in_vain_goes_away(temporary: Path) -> None:
    anticipate([])
    assert supervisor().is_running()
    discard()
    assert processes("") == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "is_expected"),
    [
        ("", True),
        ("--file x", True),
        ("--config none.yaml", True),
        ("--config broker.yaml", False),
        ("--config none.yaml --config=broker.yaml", False),
        ("--broker redis://host/0", False),
        ("--broker=redis://host/0", False),
        ("-f x --dry-run", False),
        ("--help", False),
    ],
)
def test_it_is_got_ready_where_the_arguments_say_so(
    arguments: str, is_expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broker.yaml").write_text("broker_url: redis://host/0\n")
    anticipate(arguments.split())
    try:
        if is_expected:
            assert supervisor().is_running()
        else:
            assert take_expected() is None
    finally:
        discard()
    assert processes("") == []


@pytest.mark.usefixtures("temporary")
@pytest.mark.parametrize("arguments", [["--no-such-option"], ["--file", "no-such-file"]])
def test_a_command_that_is_refused_leaves_nothing(arguments: list[str]) -> None:
    assert harness.clinvk("parallel", *arguments).status == 2
    assert processes("") == []


@pytest.mark.parametrize("how", ["flag", "variable", "file"])
def test_nothing_is_got_ready_where_there_is_a_broker(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("broker_url: redis://host/0\n" if how == "file" else "{}")
    if how == "variable":
        monkeypatch.setenv("CLINVK_BROKER_URL", "redis://host/0")
    broker = ["--broker", "redis://host/0"] if how == "flag" else []
    anticipate([*broker, "--config", str(config)])
    assert take_expected() is None
    assert processes("") == []


@pytest.mark.parametrize(
    ("slots", "cores", "shares"),
    [(1, 2, [1]), (7, 2, [7]), (8, 2, [4, 4]), (9, 2, [5, 4]), (50, 4, [13, 13, 12, 12])],
)
def test_slots_are_shared_out(slots: int, cores: int, shares: list[int]) -> None:
    assert start.divide(slots, cores) == shares


def test_a_dead_server_is_an_error_that_says_so(private: Client) -> None:
    run = private.submit(specs("sleep 600"), RunOptions())
    events = happened(run)
    assert next(events).kind == "started"
    (server,) = [p for p in processes("server.sock") if p.name().endswith("-server")]
    server.kill()
    with pytest.raises(BrokerError):
        list(events)


def test_the_directory_is_private_and_no_port_is_open(private: Client) -> None:
    directory = next(Path(os.environ["TMPDIR"]).iterdir())
    assert directory.stat().st_mode & 0o777 == 0o700
    for process in processes(""):
        assert process.net_connections(kind="inet") == []


def test_a_worker_that_cannot_start_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "celery.py").write_text("raise ImportError('Celery is broken')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{harness.ROOT}")
    told = "the local supervisor ended: ImportError: Celery is broken"
    with pytest.raises(BrokerError, match=told), _connect():
        pass


def test_a_supervisor_that_cannot_start_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clinvk.local.expected.sys", type("S", (), {"executable": "/bin/false"}))
    with pytest.raises(BrokerError, match="its supervisor ended with exit code 1"), _connect():
        pass


def test_a_server_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"local\.server: .*nowhere is not an executable file"):
        server.find_server(str(tmp_path / "nowhere"))


def _without_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def test_without_the_wheel_a_server_on_path_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _without_wheel(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match="install valkey-server"):
        server.find_server(None)
    program = tmp_path / "redis-server"
    program.touch(mode=0o755)
    assert server.find_server(None) == str(program)
