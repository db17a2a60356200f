"""clinvk as a library: its names, its options, and who ends a run."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import clinvk
from clinvk.backends import packaged_names
from clinvk.core.spec import ErrorKind, TaskResult, TaskStatus
from clinvk.runs.client import StepsWanted
from clinvk.runs.follow import BrokerLostError
from tests.unit.fake_fleet import STARTED_MS, Clinvk, FakeFleet, bad, ok

KNOWN = f"known: {', '.join(packaged_names())}"
TASKS = [clinvk.Task(backend="echo", prompt=text, id=text) for text in "abc"]


def test_results_are_typed_and_in_order_and_nothing_is_printed(
    fake: FakeFleet, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.results = [ok(2, "c", warnings=["w"]), bad(0, "no"), ok(1, "b", cost_usd=0.25)]
    run = clinvk.run(TASKS, max_parallel=7)
    assert [result.output for result in run.results] == [None, "b", "c"]
    assert run.results[0].error_kind == "failed"
    assert run.results[-1].status == clinvk.TaskStatus.OK
    assert [result.backend for result in run.results[:2]] == ["echo", "echo"]
    assert [task.id for task in run.tasks] == ["a", "b", "c"]
    assert (run.ok, run.completed, run.failed, run.canceled) == (False, 2, 1, 0)
    assert (run.id, run.duration_seconds, run.warnings) == (fake.id, 3.2, ["w"])
    assert run.start_time.timestamp() * 1000 == STARTED_MS
    assert run.to_dict()["results"][2]["task_id"] == "c"
    assert (fake.options is not None, fake.options and fake.options.max_parallel) == (True, 7)
    assert capfd.readouterr() == ("", "")


def test_show_prints_what_the_command_prints(
    fake: FakeFleet, clinvk: Clinvk, capsys: pytest.CaptureFixture[str]
) -> None:
    import clinvk as library

    fake.results = [ok(0, "a", warnings=["w"])]
    printed = clinvk("parallel", stdin='{"backend": "echo", "prompt": "a"}')
    library.run([library.Task(backend="echo", prompt="a")], show=True)
    assert tuple(capsys.readouterr()) == (printed.stdout, printed.stderr)


def test_options_have_the_precedence_of_the_command(
    fake: FakeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tasks.json"
    file.write_text('{"tasks": [{"backend": "echo", "prompt": "x"}], "max_parallel": 5}')
    config = tmp_path / "config.yaml"
    config.write_text("parallel: {max_workers: 4, fail_fast: true}\nbroker_url: redis://h\n")

    def used(**options: object) -> tuple[int, bool]:
        clinvk.run(config=config, **options)  # type: ignore[arg-type]
        assert fake.options is not None
        return fake.options.max_parallel, fake.options.fail_fast

    assert used(file=file) == (5, True)
    assert used(tasks=TASKS) == (4, True)
    monkeypatch.setenv("CLINVK_PARALLEL_MAX_WORKERS", "6")
    assert used(file=file, fail_fast=False) == (6, False)
    assert used(file=file, max_parallel=8) == (8, True)
    assert fake.connected_to == "redis://h"
    used(file=file, broker="redis://other", max_wait=90, output_dir=tmp_path / "out")
    assert (fake.connected_to, fake.submitted[0].max_wait_seconds) == ("redis://other", 90)
    assert (tmp_path / "out" / "summary.json").exists()


def test_errors_say_what_the_command_says(fake: FakeFleet) -> None:
    with pytest.raises(clinvk.TaskFileError) as caught:
        clinvk.run([TASKS[0], {"backend": "ech", "prompt": "x", "max_turns": 0}])
    assert caught.value.problems == (
        "clinvk.run: tasks[1].max_turns: must be >= 1 (got 0)",
        f'clinvk.run: tasks[1].backend: unknown backend "ech", did you mean "echo"? ({KNOWN})',
    )
    with pytest.raises(clinvk.TaskFileError, match="has no tasks"):
        clinvk.stream([])
    with pytest.raises(clinvk.UsageError, match="either tasks or file"):
        clinvk.run(TASKS, file="x.json")
    with pytest.raises(TypeError, match='did you mean "max_parallel"'):
        clinvk.run(TASKS, max_paralel=2)  # type: ignore[call-arg]
    fake.unreachable = "cannot use the broker"
    with pytest.raises(clinvk.BrokerError, match="cannot use the broker"):
        clinvk.run(TASKS)


def test_a_broker_that_is_lost_is_an_error_with_the_results_so_far(fake: FakeFleet) -> None:
    fake.breaks_after = 1
    events = clinvk.stream(TASKS)
    with pytest.raises(BrokerLostError, match="the broker is gone"):
        list(events)
    assert events.run is not None
    assert [result.status for result in events.run.results] == ["ok", "lost", "lost"]


def test_what_a_command_would_note_is_logged(
    fake: FakeFleet, caplog: pytest.LogCaptureFixture
) -> None:
    fake.results = [ok(0, "a", warnings=["beware"])]
    clinvk.run(TASKS[:1])
    assert caplog.record_tuples == [("clinvk", logging.WARNING, "beware")]


class Endless(FakeFleet):
    """A run that goes on until it is canceled; `begun` is called once its task runs."""

    def __init__(self) -> None:
        super().__init__()
        self.is_canceled = threading.Event()
        self.begun = threading.Event()

    def events(self, steps: StepsWanted = "none") -> Iterator[clinvk.Event]:
        yield clinvk.Event(kind="started", at_ms=STARTED_MS, index=0)
        self.begun.set()
        assert self.is_canceled.wait(60)
        canceled = bad(0, "canceled", TaskStatus.CANCELED, error_kind=ErrorKind.CANCELED)
        self.results = [canceled]
        yield clinvk.Event(kind="finished", at_ms=STARTED_MS + 1, index=0, result=canceled)
        yield clinvk.Event(kind="ended", at_ms=STARTED_MS + 1)

    def submit(self, *arguments: object, **named: object) -> FakeFleet:
        self.results = [TaskResult.never_started(0)]
        return super().submit(*arguments, **named)  # type: ignore[arg-type]

    def cancel(self, reason: str) -> None:
        super().cancel(reason)
        self.is_canceled.set()


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Endless:
    from clinvk.local import reach

    found = Endless()
    monkeypatch.setattr(reach, "connect", found.connect)
    return found


def test_ctrl_c_cancels_the_run_and_no_signal_is_touched(endless: Endless) -> None:
    before = [signal.getsignal(number) for number in range(1, 16)]
    seen = []

    def interrupt() -> None:
        endless.begun.wait()
        seen.append([signal.getsignal(number) for number in range(1, 16)])
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        clinvk.run(TASKS[:1])
    thread.join()
    assert endless.canceled == "interrupted"
    assert seen == [before]


def test_who_leaves_the_loop_cancels_the_run(endless: Endless) -> None:
    stream = clinvk.stream(TASKS[:1])
    for event in stream:
        assert event.kind == "started"
        break
    assert endless.canceled == "interrupted"
    assert stream.run is not None
    assert stream.run.canceled == 1
    with pytest.raises(clinvk.UsageError, match="can be iterated once"):
        list(stream)


def test_any_thread_may_cancel_and_the_events_go_on_to_the_end(endless: Endless) -> None:
    stream = clinvk.stream(TASKS[:1])
    kinds = []
    for event in stream:
        kinds.append(event.kind)
        if event.kind == "started":
            threading.Thread(target=stream.cancel).start()
    assert kinds == ["started", "finished", "ended"]


def test_steps_are_asked_for(fake: FakeFleet) -> None:
    list(clinvk.stream(TASKS, steps=True))
    assert fake.steps_wanted == "all"


def test_events_come_while_the_event_loop_goes_on(fake: FakeFleet) -> None:
    async def followed() -> list[str]:
        return [event.kind async for event in clinvk.stream(TASKS[:1])]

    async def both() -> tuple[list[str], clinvk.Run]:
        return await asyncio.gather(followed(), clinvk.run_async(TASKS[:1]))

    kinds, run = asyncio.run(both())
    assert kinds == ["started", "finished", "ended"]
    assert run.ok


def test_an_asyncio_task_that_is_canceled_cancels_the_run(endless: Endless) -> None:
    async def canceled() -> None:
        task = asyncio.create_task(clinvk.run_async(TASKS[:1]))
        await asyncio.to_thread(endless.begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(canceled())
    assert endless.canceled == "interrupted"
