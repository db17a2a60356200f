"""The live display beside the data: what a terminal shows after all that was written to it."""

from __future__ import annotations

import io
import itertools
import os
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from clinvk.core.spec import TaskResult, TaskSpec, TaskStatus, Usage
from clinvk.core.steps import StepKind, StepRecord
from clinvk.output.forms import live as form
from clinvk.output.streams import Output, Streams
from clinvk.runs.client import Event
from clinvk.runs.waiting import Wait
from tests import harness


class Screen(io.StringIO):
    """A terminal that keeps all its lines, and knows as much of the codes as rich uses."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = [""]
        self.row = 0
        self.frames: list[list[str]] = []
        self.drawn = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        position = 0
        while position < len(text):
            position = self._take(text, position)
        return len(text)

    def _take(self, text: str, at: int) -> int:
        if text[at] == "\x1b":
            end = next(i for i in range(at + 2, len(text)) if text[i].isalpha())
            self._obey(text[at + 2 : end], text[end])
            return end + 1
        if text[at] == "\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append("")
        elif text[at] != "\r":
            self.lines[self.row] += text[at]
            self.drawn = True
        return at + 1

    def _obey(self, argument: str, verb: str) -> None:
        match verb:
            case "A":
                self.row -= int(argument or 1)
                assert self.row >= 0, "the cursor left the screen"
            case "K":
                if self.drawn:  # the first line of a frame that is about to be replaced
                    self.frames.append([line for line in self.lines if line])
                self.drawn = False
                self.lines[self.row] = ""
            case "m" | "h" | "l":
                pass
            case _:
                raise AssertionError(f"unknown code {argument}{verb}")


@pytest.fixture
def screen() -> Screen:
    return Screen()


def specs(count: int, name: str = "a task") -> list[TaskSpec]:
    return [TaskSpec(backend="echo", prompt=f"{name} {number}") for number in range(1, count + 1)]


def ended(index: int, status: TaskStatus = TaskStatus.OK) -> Event:
    result = TaskResult(index=index, status=status, exit_code=0, duration_seconds=0.0, output="x")
    return Event(kind="finished", index=index, result=result)


def started(index: int) -> Event:
    return Event(kind="started", index=index)


class Displayed(form.Live):
    """A display that is taken away at the end of a `with`."""

    def __init__(self, tasks: list[TaskSpec], streams: Streams, console: Console) -> None:
        super().__init__(tasks, streams, console)
        self.streams = streams

    def __enter__(self) -> Displayed:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.fixture
def live(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Displayed]:
    monkeypatch.setattr(form, "TICK_SECONDS", 0.001)

    def make(tasks: list[TaskSpec], width: int = 80, height: int = 24) -> Displayed:
        console = Console(file=screen, force_terminal=True, width=width, height=height)
        return Displayed(tasks, Streams(Output(screen)), console)

    return make


def drawn(screen: Screen, *wanted: str) -> list[str]:
    """Wait for a frame with all these texts."""

    def find() -> list[str] | None:
        for frame in reversed(screen.frames):
            if all(any(text in line for line in frame) for text in wanted):
                return frame
        return None

    found: list[str] = harness.wait_until(find, f"a frame with {wanted}")
    return found


def test_lines_of_data_stay_and_nothing_of_the_display_does(
    live: Callable[..., Displayed], screen: Screen
) -> None:
    screen.write("Running 3 tasks...\n\n")
    with live(specs(3)) as display:
        for index in range(3):
            display.saw(started(index))
        drawn(screen, "3 running", "[1] echo a task 1", "[3] echo a task 3")
        for index in range(3):
            display.saw(ended(index))
            display.streams.write(f"[{index + 1}] answer" + "\n")
            drawn(screen, f"{index + 1}/3", f"[{index + 1}] answer")
        display.streams.write("last" + "\n")
    assert [line for line in screen.lines if line] == [
        "Running 3 tasks...",
        "[1] answer",
        "[2] answer",
        "[3] answer",
        "last",
    ]


def test_a_frame_says_how_much_is_done(live: Callable[..., Displayed], screen: Screen) -> None:
    with live(specs(5)) as display:
        for index in range(3):
            display.saw(started(index))
        display.saw(ended(0))
        display.saw(ended(1, TaskStatus.TIMEOUT))
        frame = drawn(screen, "2/5, 1 running, 1 ok, 1 failed")
        assert not any("[1]" in line for line in frame)
        display.saw(ended(2, TaskStatus.CANCELED))
        drawn(screen, "3/5, 0 running, 1 ok, 1 failed, 1 canceled")


def wait(seconds: float, kind: str = "usage_limit", name: str = "claude") -> Wait:
    now_ms = time.time_ns() // 1_000_000
    return Wait(name, kind, now_ms + int(seconds * 1000), 37, now_ms)


def test_a_task_that_was_put_back_runs_no_longer(
    live: Callable[..., Displayed], screen: Screen
) -> None:
    with live(specs(5)) as display:
        display.saw(started(0))
        drawn(screen, "1 running", "[1] echo a task 1")
        display.saw(Event(kind="held", index=0))
        frame = drawn(screen, "0/5, 0 running")
        assert not any("[1]" in line for line in frame)


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (120, r"  claude: limited until \S+( \S+)? \(in 12 min\), 37 waiting"),
        (80, r"  claude: limited until \S+( \S+)? \(in 12 min\), 37 waiting"),
        (52, r"  claude: limited until \S+( \S+)?, 37 waiting"),
        (40, r"  claude: limited until \S+( \S+)?(, 37 waiting)?"),
    ],
)
def test_what_tasks_wait_for_is_a_line_that_fits(
    live: Callable[..., Displayed], screen: Screen, width: int, text: str
) -> None:
    with live(specs(5), width=width) as display:
        display.saw(Event(kind="waits", waits=[wait(720)]))
        frame = drawn(screen, "claude: limited")
        (line,) = (line for line in frame if "claude" in line)
        assert re.fullmatch(text, line)
        assert len(line) < width
        display.saw(Event(kind="waits"))
        harness.wait_until(lambda: not any("claude" in x for x in screen.frames[-1]), "it is gone")


def test_what_tasks_wait_for_counts_down(live: Callable[..., Displayed], screen: Screen) -> None:
    with live(specs(5)) as display:
        display.saw(Event(kind="waits", waits=[wait(2.2)]))
        drawn(screen, "(in 1 s)")


def test_more_tasks_than_rows_are_counted(live: Callable[..., Displayed], screen: Screen) -> None:
    with live(specs(40), height=10) as display:
        for index in range(40):
            display.saw(started(index))
        frame = drawn(screen, "40 running", "+ 35 more running")
        assert len(frame) <= 9


@pytest.mark.parametrize("width", [1, 5, 20, 60, 120])
def test_no_line_is_wider_than_the_terminal(
    live: Callable[..., Displayed], screen: Screen, width: int
) -> None:
    with live(specs(3, "漢字 a rather long prompt that must be cut" * 3), width=width) as display:
        for index in range(3):
            display.saw(started(index))
        harness.wait_until(lambda: len(screen.frames) > 3, "some frames")
    from rich.cells import cell_len

    assert max(cell_len(line) for frame in screen.frames for line in frame) <= width


def test_only_tasks_that_run_are_remembered(live: Callable[..., Displayed], screen: Screen) -> None:
    tasks = Looked(specs(30))
    with live(tasks) as display:
        for index in range(30):
            display.saw(started(index))
            drawn(screen, f"[{index + 1}] echo a task {index + 1}")
            display.saw(ended(index))
        drawn(screen, "30/30, 0 running")
        assert tasks.looks == 30
        display.saw(started(0))
        drawn(screen, "[1] echo a task 1", "30/30, 1 running")
    assert tasks.looks == 31


class Looked(list[TaskSpec]):
    """Tasks, and how often one was looked at."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1
        return super().__getitem__(index)


def test_nothing_is_made_for_a_reader_that_has_gone(capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:  # noqa: PTH123
        output = Output(stream)
        output.write_all(f"{number}\n" for number in itertools.count())
        assert output.broken
        output.write("more")
    assert capsys.readouterr().err.count("cannot write to standard output (Broken pipe)") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (59.94, "59.9s"), (60, "1:00"), (3599, "59:59"), (3600, "1:00:00")],
)
def test_elapsed(seconds: float, text: str) -> None:
    assert form.elapsed(seconds) == text


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_reader_of_a_pipe_gets_a_moment_to_print(screen: Screen, is_terminal: bool) -> None:
    """`clinvk … | tee log`: what tee prints must not be erased with the display."""
    console = Console(file=screen, force_terminal=True, width=80, height=24)
    pipe = screen if is_terminal else io.StringIO()
    display = Displayed(specs(2), Streams(Output(pipe)), console)
    display.streams.hold()
    display._draw()
    assert "0/2" in screen.lines[screen.row]
    display.streams.write("data" + "\n")
    display._draw()
    assert ("0/2" in screen.lines[screen.row]) is is_terminal
    if not is_terminal:
        screen.write("data\n")  # as tee would
    display._draw()
    assert "0/2" in screen.lines[screen.row]
    display._region.stop()
    assert [line for line in screen.lines if line] == ["data"]


def test_a_row_shows_what_its_task_does(live: Callable[..., Displayed], screen: Screen) -> None:
    with live(specs(3), width=80) as display:
        for index in range(2):
            display.saw(started(index))
        display.saw(did(0, StepKind.TOOL_CALL, text="Bash pytest -q"))
        display.saw(did(0, StepKind.USAGE, usage=Usage(input_tokens=12_000, output_tokens=345)))
        display.saw(did(2, StepKind.MESSAGE, text="of a task that does not run"))
        frame = drawn(screen, "Bash pytest -q", "12.3k tok")
        row = next(line for line in frame if "Bash pytest -q" in line)
        assert row.split()[1:] == [
            "[1]",
            "echo",
            "a",
            "task",
            "1",
            "Bash",
            "pytest",
            "-q",
            "12.3k",
            "tok",
        ]
        assert not any("does not run" in line for line in frame)
        display.saw(did(0, StepKind.TOOL_RESULT, ok=False))
        drawn(screen, "Bash pytest -q: failed")
        display.saw(started(0))  # the next attempt
        drawn(screen, "[1] echo a task 1")
        harness.wait_until(lambda: "pytest" not in "".join(screen.frames[-1]), "a new row")


def did(index: int, kind: StepKind, **more: Any) -> Event:
    step = StepRecord(index=index, attempt=1, time="", kind=kind, **more)
    return Event(kind="step", index=index, step=step)
