"""What a person sees while a run goes on. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import IO, TYPE_CHECKING

from clinvk.core.spec import TaskSpec, TaskStatus
from clinvk.runs.client import Event

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live as RichLive

TICK_SECONDS = 0.125
CHROME_ROWS = 4
"""Rows of the display beside those of running tasks, and one that stays free."""


class Output:
    """Lines of data on stdout. Once nobody reads them it stays quiet, and says so once."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.broken = False

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads stdout as it comes."""
        return self._stream.isatty()

    def write(self, text: str) -> None:
        """Write text; a reader that went away is not an error here."""
        self.write_all((text,))

    def write_all(self, pieces: Iterable[str]) -> None:
        """Write text piece by piece, as long as somebody reads it."""
        for piece in pieces:
            self._attempt(self._stream.write, piece)
            if self.broken:
                return
        self._attempt(self._stream.flush)

    def _attempt(self, act: Callable[..., object], *arguments: str) -> None:
        if self.broken:
            return
        try:
            act(*arguments)
        except OSError as error:
            self.broken = True
            # What the interpreter flushes at exit must not raise again.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            note(f"clinvk: standard output cannot be written ({error.strerror}); the run goes on")


def note(text: str) -> None:
    """Write a line to stderr, if there is one."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except RuntimeError:  # a signal came while the same stream was being written
        os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
    except (OSError, ValueError):
        pass


class Quiet:
    """Shows nothing while a run goes on."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def print(self, line: str) -> None:
        """Write a line of data."""
        self._output.write(line + "\n")

    def tell(self, line: str) -> None:
        """Write a line for the person at the terminal. Safe in a signal handler."""
        note(line)

    def saw(self, event: Event) -> None:
        """Take note of an event."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Plain(Quiet):
    """A line on stderr as each task ends, for logs."""

    def __init__(self, output: Output, specs: Sequence[TaskSpec]) -> None:
        super().__init__(output)
        self._specs = specs
        self._ended = 0

    def saw(self, event: Event) -> None:
        """Say how a task ended."""
        if event.result is None:
            return
        from clinvk.output.text_width import fit, title

        self._ended += 1
        spec, result = self._specs[event.index], event.result
        name = fit(title(spec), 60)
        status = f"{result.status.upper()} {result.duration_seconds:.2f}s"
        note(f"[{self._ended}/{len(self._specs)}] {spec.backend} {status} {name}")


class Live(Quiet):
    """A display on the terminal that redraws itself, and is gone when the run has ended.

    Lines are held back until the next redraw, because stdout may be the same terminal: the
    display is taken away, the lines are written, and it is drawn again below them.
    """

    def __init__(self, output: Output, specs: Sequence[TaskSpec], console: Console) -> None:
        super().__init__(output)
        self._specs = specs
        self._console = console
        self._live = _region(console)
        self._lock = threading.Lock()
        self._lines: deque[str] = deque()
        self._told: deque[str] = deque()
        self._rows: dict[int, tuple[str, str]] = {}
        self._running: dict[int, float] = {}
        self._outcomes: dict[TaskStatus, int] = dict.fromkeys(TaskStatus, 0)
        self._started_at = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._redraw, name="clinvk-display", daemon=True)

    def __enter__(self) -> Live:
        with contextlib.suppress(OSError):
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._live.stop()
        self._write_held()

    def print(self, line: str) -> None:
        """Write a line of data at the next redraw."""
        self._lines.append(line)

    def tell(self, line: str) -> None:
        """Write a line to stderr at the next redraw."""
        self._told.append(line)

    def saw(self, event: Event) -> None:
        """Take note of what began and what ended."""
        with self._lock:
            if event.kind == "started":
                self._running[event.index] = time.monotonic()
            elif event.result is not None:
                self._running.pop(event.index, None)
                self._outcomes[event.result.status] += 1

    def _redraw(self) -> None:
        while not self._closing.wait(TICK_SECONDS):
            try:
                self._draw()
            except OSError:  # the terminal is gone; data may still have a reader
                self._write_held()

    def _draw(self) -> None:
        if self._lines or self._told:
            self._live.stop()
            self._write_held()
            # A new one: a used one remembers its height, and would erase that much of what
            # was just written.
            self._live = _region(self._console)
            if not self._output.is_terminal:
                return  # leave a reader such as tee a moment: it may print on this terminal
        self._live.start()  # does nothing where it is started
        self._live.update(self._display(), refresh=True)

    def _write_held(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if lines:
            self._output.write("\n".join(lines) + "\n")
        for _ in range(len(self._told)):
            note(self._told.popleft())

    def _display(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        with self._lock:
            running = sorted(self._running.items())
            outcomes = dict(self._outcomes)
        now = time.monotonic()
        room = max(1, self._console.height - CHROME_ROWS)
        shown = running if len(running) <= room else running[: room - 1]
        # Prompts have any length: what is shown of them is not made anew at each redraw.
        self._rows = {index: self._rows.get(index) or self._row(index) for index, _ in shown}
        rows = [self._task_row(index, now - since) for index, since in shown]
        if len(shown) < len(running):
            rows.append(Text(f"  + {len(running) - len(shown)} more running", style="dim"))
        return Group(*rows, self._totals(outcomes, len(running), now - self._started_at))

    def _row(self, index: int) -> tuple[str, str]:
        from clinvk.output.text_width import title

        spec = self._specs[index]
        return spec.backend, title(spec)

    def _task_row(self, index: int, seconds: float) -> RenderableType:
        from rich.text import Text

        from clinvk.output.text_width import fit

        backend, title = self._rows[index]
        head = f"  {elapsed(seconds):>7} [{index + 1}] {backend} "
        room = max(0, self._console.width - len(head) - 1)
        text = Text(head, style="cyan", no_wrap=True, overflow="crop", end="")
        return Text.assemble(text, fit(title, room), no_wrap=True, overflow="crop")

    def _totals(
        self, outcomes: dict[TaskStatus, int], running: int, seconds: float
    ) -> RenderableType:
        from rich.text import Text

        total = len(self._specs)
        ended = sum(outcomes.values())
        failed = ended - outcomes[TaskStatus.OK] - outcomes[TaskStatus.CANCELED]
        words = [f"{ended}/{total}", f"{running} running", f"{outcomes[TaskStatus.OK]} ok"]
        if failed:
            words.append(f"{failed} failed")
        if outcomes[TaskStatus.CANCELED]:
            words.append(f"{outcomes[TaskStatus.CANCELED]} canceled")
        words.append(elapsed(seconds))
        tail = ", ".join(words)
        room = min(30, self._console.width - len(tail) - 6)  # a terminal echoes ^C behind it
        filled = room * ended // total if room > 0 else 0
        bar = "━" * filled + "─" * (room - filled) + " " if room >= 5 else ""
        style = "red" if failed else "green"
        return Text.assemble("  ", (bar, style), tail, no_wrap=True, overflow="crop")


def _region(console: Console) -> RichLive:
    """Give a part of the terminal that can be redrawn, and leaves nothing behind."""
    from rich.live import Live

    return Live(
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        vertical_overflow="crop",
    )


def elapsed(seconds: float) -> str:
    """Return a duration in the units that a person would use."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if minutes else f"{seconds:.1f}s"


def choose(output: Output, specs: Sequence[TaskSpec], *, quiet: bool, data_only: bool) -> Quiet:
    """Choose the display: live on a terminal, plain lines in logs where stdout has none."""
    if quiet:
        return Quiet(output)
    if sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from rich.console import Console

        return Live(output, specs, Console(stderr=True))
    return Plain(output, specs) if data_only else Quiet(output)
