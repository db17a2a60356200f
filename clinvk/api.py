"""clinvk as a library: `clinvk.run`, `clinvk.run_async`, `clinvk.stream`.

Beside `clinvk.cli`, this is the other front of the same commands (`clinvk.commands`): the options
are those of `clinvk parallel`, by the same names and with the same precedence, and what happens
between them and the results is the same code.

A run is submitted and followed in a thread of its own. Whoever waits for it only reads a queue, so
nothing of it is torn when Ctrl-C comes, in whatever way the caller's program, or notebook, deals
with signals: none is touched here. Where the caller goes away, for whatever reason, the run is
canceled, and the call returns when its processes have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from clinvk.commands.options import ParallelOptions
from clinvk.core.errors import UsageError
from clinvk.core.network import NetworkAccess
from clinvk.core.spec import (
    ApprovalMode,
    OnWorkerLost,
    RetryKind,
    SandboxMode,
    TaskResult,
    TaskSpec,
    Usage,
    Workspace,
)
from clinvk.core.spending import Spending
from clinvk.core.suggestions import did_you_mean
from clinvk.output.forms import FORMS
from clinvk.output.presenter import Audience, Followed
from clinvk.output.streams import noting_to
from clinvk.privacy import leave_alone
from clinvk.runs.client import Event, StepsWanted
from clinvk.runs.interruption import Interruption
from clinvk.runs.report import Report

if TYPE_CHECKING:
    from clinvk.commands.submission import PlannedRun
    from clinvk.config.settings import Settings

PathLike = str | os.PathLike[str]

log = logging.getLogger("clinvk")
log.addHandler(logging.NullHandler())
"""Gets what the command writes to standard error."""

LOOK_SECONDS = 0.5
"""How long to wait at a time: a signal that comes just before Python waits is seen after it."""
AS_TEXT = frozenset({"max_wait", "max_cost", "max_tokens_total"})
"""Options with units, which are read as on the command line."""
NAME = "clinvk.run"
"""What messages about tasks begin with, where a command's begin with the name of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task; the fields are those of a task in a task file. None leaves it to the configuration.

    `backend` may be several, of which any may run it.
    """

    backend: str | Sequence[str]
    prompt: str
    model: str | None = None
    workdir: PathLike | None = None
    approval_mode: ApprovalMode | None = None
    sandbox_mode: SandboxMode | None = None
    network: NetworkAccess | None = None
    output_format: str | None = None
    max_tokens: int | None = None
    max_turns: int | None = None
    system_prompt: str | None = None
    timeout_seconds: float | None = None
    stall_timeout_seconds: float | None = None
    id: str | None = None
    name: str | None = None
    tags: Sequence[str] | None = None
    meta: Mapping[str, str] | None = None
    extra: Sequence[str] | None = None
    allowed_tools: Sequence[str] | None = None
    on_worker_lost: OnWorkerLost | None = None
    max_attempts: int | None = None
    fallback: Sequence[str] | None = None
    max_wait: float | str | None = None
    retries: int | None = None
    retry_on: Sequence[RetryKind] | None = None
    retry_after_changes: bool | None = None
    workspace: Workspace | None = None
    repo: str | None = None
    reuse: bool | None = None
    ref: str | None = None
    include_changes: bool | None = None
    setup: str | None = None
    setup_timeout_seconds: float | None = None
    schema: PathLike | Mapping[str, Any] | None = None
    schema_repairs: int | None = None
    verify: str | Sequence[str] | None = None
    verify_retries: int | None = None
    verify_timeout_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the task as it is in a task file."""
        fields = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: _plain(value) for name, value in fields if value is not None}


class Options(TypedDict, total=False):
    """What may be said of a run: the options of `clinvk parallel`, without the two dashes.

    `show` prints what the command prints, `verbose` also the steps of agents. `requires` is that of
    a task file.
    """

    file: PathLike
    lenient: bool
    max_parallel: int
    fail_fast: bool
    max_wait: float | str
    max_cost: float | str
    max_tokens_total: float | str
    allow_unknown_cost: bool
    requires: Mapping[str, str | Sequence[str]]
    reuse: bool
    priority: int
    run_key: str
    wait_for_workers: bool
    broker: str
    config: PathLike
    output_dir: PathLike
    joblog: PathLike
    junit: PathLike
    report: PathLike
    csv: PathLike
    show: bool
    verbose: bool


class Results(Sequence[TaskResult]):
    """The results of a run in the order of its tasks, each with the backend that it is of.

    They need not be in memory: each is read as it is looked at.
    """

    def __init__(self, report: Report) -> None:
        self._report = report

    def __len__(self) -> int:
        return len(self._report.results)

    @overload
    def __getitem__(self, index: int) -> TaskResult: ...
    @overload
    def __getitem__(self, index: slice) -> list[TaskResult]: ...
    def __getitem__(self, index: int | slice) -> TaskResult | list[TaskResult]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        result = self._report.results[place]
        return dataclasses.replace(result, backend=result.backend_of(self._report.specs[place]))

    def __iter__(self) -> Iterator[TaskResult]:
        return (self[index] for index in range(len(self)))


class Run:
    """A run that has ended.

    Attributes:
        id: its id, for `clinvk results` and the other commands.
        results: a result for each task, in order.
        tasks: the tasks as they were run, in order.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self.id = report.run_id
        self.results = Results(report)
        self.tasks: Sequence[TaskSpec] = report.specs

    def __repr__(self) -> str:
        completed, failed, canceled = self._report.counts()
        return f"<Run {self.id}: {completed} completed, {failed} failed, {canceled} canceled>"

    @property
    def ok(self) -> bool:
        """Whether every task is ok."""
        return self.completed == len(self.results)

    @property
    def completed(self) -> int:
        """How many tasks are ok."""
        return self._report.counts()[0]

    @property
    def failed(self) -> int:
        """How many tasks failed, timed out or were lost."""
        return self._report.counts()[1]

    @property
    def canceled(self) -> int:
        """How many tasks were canceled."""
        return self._report.counts()[2]

    @property
    def duration_seconds(self) -> float:
        """The time from the submission to the end."""
        return self._report.duration_seconds

    @property
    def start_time(self) -> datetime:
        """When it was submitted."""
        return datetime.fromtimestamp(self._report.started_ms / 1000, UTC)

    @property
    def end_time(self) -> datetime:
        """When it ended."""
        return datetime.fromtimestamp(self._report.ended_ms / 1000, UTC)

    @property
    def cost_usd(self) -> float | None:
        """What it cost, as far as that is known; None where nothing is."""
        return self._spending.cost_usd

    @property
    def usage(self) -> Usage | None:
        """The tokens of all tasks; None where nobody counted any."""
        return self._spending.usage

    @property
    def warnings(self) -> list[str]:
        """The warnings of all results, each once."""
        return list(self._report.warnings())

    @property
    def _spending(self) -> Spending:
        return Spending.sum(self._report.spending.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `clinvk parallel --json` prints."""
        from clinvk.output.kinds import formatter_of

        document: dict[str, Any] = json.loads(
            "".join(formatter_of("parallel").document(self._report))
        )
        return document


class Stream:
    """A run that begins when it is iterated, with `for` or `async for`, and gives its events.

    Where the loop is left before the run has ended, the run is canceled, and its processes end.

    Attributes:
        run: the run with its results, once it has ended.
    """

    def __init__(self, session: _Session) -> None:
        self._session = session

    @property
    def run(self) -> Run | None:
        """The run with its results, once it has ended; before that, None."""
        return self._session.run

    def cancel(self) -> None:
        """Cancel the run, from any thread; its events go on until its end."""
        self._session.cancel()

    def __iter__(self) -> Iterator[Event]:
        events = queue.SimpleQueue[Event | None]()
        try:
            self._session.begin(events.put)
            while (event := _next(events)) is not None:
                yield event
        finally:
            if self._session.cancel_unless_over():
                self._session.wait()
        self._session.check()

    async def __aiter__(self) -> AsyncIterator[Event]:
        loop = asyncio.get_running_loop()
        events, has_ended = asyncio.Queue[Event | None](), asyncio.Event()

        def put(event: Event | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(events.put_nowait, event)
                if event is None:
                    loop.call_soon_threadsafe(has_ended.set)

        waking = asyncio.create_task(_wake_loop())
        try:
            self._session.begin(put)
            while (event := await events.get()) is not None:
                yield event
        finally:
            if self._session.cancel_unless_over():
                await has_ended.wait()
            waking.cancel()
        self._session.check()


def run(tasks: Iterable[Task | Mapping[str, Any]] = (), **options: Unpack[Options]) -> Run:
    """Run tasks, and return their results; a task that fails is a result, never an exception.

    Raises:
        ClinvkError: what the command would report, with the same message.
        KeyboardInterrupt: the run is canceled, and its processes have ended.
    """
    events = stream(tasks, **options)
    for _ in events:
        pass
    assert events.run is not None
    return events.run


async def run_async(
    tasks: Iterable[Task | Mapping[str, Any]] = (), **options: Unpack[Options]
) -> Run:
    """Run tasks as `run` does, while the event loop goes on.

    Raises:
        ClinvkError: what the command would report, with the same message.
        CancelledError: the run is canceled, and its processes have ended.
    """
    events = stream(tasks, **options)
    async for _ in events:
        pass
    assert events.run is not None
    return events.run


def stream(
    tasks: Iterable[Task | Mapping[str, Any]] = (),
    *,
    steps: bool = False,
    **options: Unpack[Options],
) -> Stream:
    """Check tasks and options, and return a run that begins when it is iterated.

    With `steps` its events are also what agents do, step by step.

    Raises:
        ClinvkError: what the command would report, with the same message.
    """
    return Stream(_Session(tasks, options, "all" if steps else "none"))


class _Session(Audience):
    """One run: planned, then submitted and followed in a thread."""

    def __init__(
        self, tasks: Iterable[Task | Mapping[str, Any]], options: Options, steps: StepsWanted
    ) -> None:
        leave_alone()
        self.steps_wanted = steps
        self.run: Run | None = None
        self._put: Callable[[Event | None], None] = lambda _: None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()
        self._interruption = Interruption(self._note)
        self._is_shown = options.get("show", False)
        with self._noting():
            self._settings, self._planned = _plan(tasks, options)

    def begin(self, put: Callable[[Event | None], None]) -> None:
        """Begin the run; `put` gets its events, and None at its end."""
        if self._thread is not None:
            raise UsageError("this run has begun already: a stream can be iterated once")
        self._put = put
        self._thread = threading.Thread(target=self._carry_out, name="clinvk", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Cancel the run; returns at once."""
        self._interruption.cancel()

    def cancel_unless_over(self) -> bool:
        """Cancel the run if it has not ended; returns whether it goes on, to its end."""
        if self._is_over.is_set():
            return False
        self.cancel()
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Wait for the end of the run."""
        while not self._is_over.wait(LOOK_SECONDS):
            pass

    def check(self) -> None:
        """Raise what kept the run from its end."""
        if self._error is not None:
            raise self._error

    def _carry_out(self) -> None:
        from clinvk.commands.submission import execute

        try:
            with self._noting():
                execute(self._settings, self._planned, self)
        except BaseException as error:  # noqa: BLE001  (raised where the run is waited for)
            self._error = error
        finally:
            self._is_over.set()
            self._put(None)

    def _noting(self) -> contextlib.AbstractContextManager[None]:
        """Let what is noted inside go where it belongs: to standard error, or to the log."""
        return contextlib.nullcontext() if self._is_shown else noting_to(self._note)

    def _note(self, line: str) -> None:
        log.warning(line.removeprefix("warning: ").removeprefix("clinvk: "))

    def interruption(self, note: Callable[[str], None]) -> Interruption:
        """Return what may end the run: the caller, by no signal."""
        self._interruption.note = note
        return self._interruption

    def saw(self, event: Event) -> None:
        """Give an event to whoever waits."""
        self._put(event)

    def ended(self, followed: Followed) -> None:
        """Take note of the results."""
        if followed.report is not None:
            self.run = Run(followed.report)
        self._error = followed.broker_lost


async def _wake_loop() -> None:
    """Let the event loop look around: that of a notebook sees Ctrl-C when anything wakes it."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)


def _next(events: queue.SimpleQueue[Event | None]) -> Event | None:
    """Return the next event, waiting for it."""
    while True:
        with contextlib.suppress(queue.Empty):
            return events.get(timeout=LOOK_SECONDS)


def _plan(tasks: Iterable[Task | Mapping[str, Any]], given: Options) -> tuple[Settings, PlannedRun]:
    """Return the run that tasks and options describe, and the settings that it is made of."""
    from clinvk.commands import parallel
    from clinvk.commands.submission import plan_run
    from clinvk.config import settings

    named = {name: _plain(value) for name, value in given.items() if value is not None}
    config, is_shown = named.pop("config", None), named.pop("show", False)
    if unknown := named.keys() - Options.__annotations__.keys():
        name = min(unknown)
        hint = did_you_mean(name, Options.__annotations__)
        raise TypeError(f"{NAME}() got an unexpected keyword argument {name!r}{hint}")
    paths = {form.name: named.pop(form.name) for form in FORMS if form.name in named}
    for name in named.keys() & AS_TEXT:
        named[name] = str(named[name])
    options = ParallelOptions(**named, paths=paths)
    bodies = [task.to_dict() if isinstance(task, Task) else dict(task) for task in tasks]
    if bodies and options.file is not None:
        raise UsageError("give either tasks or file")
    loaded = settings.load(config)
    if options.file is not None:
        work = parallel.read(loaded, options)
    else:
        work = parallel.take(loaded, options, bodies, NAME)
    planned = plan_run(loaded, options, work)
    return loaded, dataclasses.replace(
        planned, view=dataclasses.replace(planned.view, is_silent=not is_shown)
    )


def _plain(value: Any) -> Any:
    """Return a value as a task file has it."""
    match value:
        case os.PathLike():
            return os.fspath(value)
        case str():
            return value
        case Mapping():
            return {name: _plain(each) for name, each in value.items()}
        case Sequence():
            return [_plain(each) for each in value]
    return value
