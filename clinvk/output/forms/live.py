"""A display on the terminal that redraws itself, and is gone when the run has ended."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from clinvk.core.spec import TaskSpec, TaskStatus
from clinvk.output.reporter import Presentation, Reporter
from clinvk.output.streams import Streams
from clinvk.output.task_rows import Activity, Row, lay_out
from clinvk.output.text_width import title
from clinvk.runs.client import Event
from clinvk.runs.waiting import Wait

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live as RichLive

TICK_SECONDS = 0.125
CHROME_ROWS = 4
"""Rows of the display beside those of running tasks, and one that stays free."""
MAX_WAITS = 5
INDENT = "  "
BAR_CELLS = 30
MIN_BAR_CELLS = 5


def has_terminal() -> bool:
    """Whether stderr is a terminal on which a display can be drawn."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def make(presentation: Presentation) -> Live | None:
    """Make the display where stderr is a terminal, unless it should be quiet."""
    if presentation.view.quiet or not has_terminal():
        return None
    from rich.console import Console

    return Live(presentation.specs, presentation.streams, Console(stderr=True))


class Live(Reporter):
    """Shows which tasks run and how many have ended.

    What others write is held back until the next redraw, because stdout may be the same terminal:
    the display is taken away, the lines are written, and it is drawn again below them.
    """

    steps_wanted = "recent"

    def __init__(self, specs: Sequence[TaskSpec], streams: Streams, console: Console) -> None:
        self._specs = specs
        self._streams = streams
        self._console = console
        self._region = _region(console)
        self._lock = threading.Lock()
        self._rows: dict[int, tuple[str, str]] = {}
        self._running: dict[int, Activity] = {}
        self._waits: tuple[Sequence[Wait], float] = ((), 0.0)
        self._statuses: dict[TaskStatus, int] = dict.fromkeys(TaskStatus, 0)
        self._started_at = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._redraw, name="clinvk-display", daemon=True)

    def begin(self) -> None:
        """Draw the display, from now on every TICK_SECONDS."""
        self._streams.hold()
        with contextlib.suppress(OSError):
            self._region.start()
        self._thread.start()

    def saw(self, event: Event) -> None:
        """Take note of what started, what it does, and what ended."""
        with self._lock:
            if event.kind == "started":
                self._running[event.index] = Activity(time.monotonic(), event.backend)
            elif event.kind == "held":
                self._running.pop(event.index, None)
            elif event.kind == "waits":
                self._waits = (event.waits, time.monotonic())
            elif event.step is not None:
                if event.index in self._running:
                    self._running[event.index].saw(event.step)
            elif event.result is not None:
                self._running.pop(event.index, None)
                self._statuses[event.result.status] += -1 if event.kind == "retried" else 1

    def stop(self) -> None:
        """Take the display away, and write what it held back."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(OSError):
            self._region.stop()
        self._streams.let_go()

    def _redraw(self) -> None:
        while not self._closing.wait(TICK_SECONDS):
            try:
                self._draw()
            except OSError:  # the terminal is gone; data may still have a reader
                self._streams.write_held()

    def _draw(self) -> None:
        if self._streams.has_held:
            self._region.stop()
            self._streams.write_held()
            # A new one: a used one remembers its height, and would erase that much of what
            # was just written.
            self._region = _region(self._console)
            if not self._streams.output.is_terminal:
                return  # leave a reader such as tee a moment: it may print on this terminal
        self._region.start()  # does nothing where it is started
        self._region.update(self._display(), refresh=True)

    def _display(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        now = time.monotonic()
        with self._lock:
            waits = self._wait_lines(now)
            room = max(1, self._console.height - CHROME_ROWS - len(waits))
            running = len(self._running)
            indexes = sorted(self._running)[: room if running <= room else room - 1]
            # Prompts have any length: what is shown of them is not made anew at each redraw.
            self._rows = {index: self._rows.get(index) or self._row(index) for index in indexes}
            shown = [self._shown(index, self._running[index], now) for index in indexes]
            statuses = dict(self._statuses)
        rows: list[RenderableType] = [
            Text.assemble(*parts, no_wrap=True, overflow="crop")
            for parts in lay_out(shown, self._console.width)
        ]
        if len(shown) < running:
            rows.append(Text(f"  + {running - len(shown)} more running", style="dim"))
        rows += [Text(line, style="yellow", no_wrap=True, overflow="crop") for line in waits]
        return Group(*rows, self._totals(statuses, running, now - self._started_at))

    def _wait_lines(self, now: float) -> list[str]:
        """Return what tasks wait for until a time, a line each that fits."""
        waits, read_at = self._waits
        cells = self._console.width - len(INDENT) - 1
        texts = [wait.texts(int((now - read_at) * 1000)) for wait in waits[:MAX_WAITS]]
        return [
            INDENT + next((text for text in each if cell_len(text) <= cells), each[-1])
            for each in texts
        ]

    def _row(self, index: int) -> tuple[str, str]:
        spec = self._specs[index]
        return "|".join(spec.choices), title(spec)

    def _shown(self, index: int, activity: Activity, now: float) -> Row:
        backend, name = self._rows[index]
        time_ = elapsed(now - activity.since)
        backend = activity.backend or backend
        return Row(time_, f"[{index + 1}]", backend, name, activity.step, activity.tokens)

    def _totals(
        self, statuses: dict[TaskStatus, int], running: int, seconds: float
    ) -> RenderableType:
        from rich.text import Text

        total, ended = len(self._specs), sum(statuses.values())
        failed = ended - statuses[TaskStatus.OK] - statuses[TaskStatus.CANCELED]
        counts = [f"{ended}/{total}", f"{running} running", f"{statuses[TaskStatus.OK]} ok"]
        counts += [f"{failed} failed"] if failed else []
        canceled = statuses[TaskStatus.CANCELED]
        counts += [f"{canceled} canceled"] if canceled else []
        tail = ", ".join([*counts, elapsed(seconds)])
        bar = _bar(ended, total, self._console.width - len(tail) - 6)  # ^C is echoed behind it
        style = "red" if failed else "green"
        return Text.assemble("  ", (bar, style), tail, no_wrap=True, overflow="crop")


def _bar(ended: int, total: int, room: int) -> str:
    """Return the bar of progress, with a space after it; nothing where there is no room for it."""
    cells = min(BAR_CELLS, room)
    if cells < MIN_BAR_CELLS:
        return ""
    filled = cells * ended // total
    return "━" * filled + "─" * (cells - filled) + " "


def _region(console: Console) -> RichLive:
    """Make a part of the terminal that can be redrawn, and leaves nothing behind."""
    from rich.live import Live as RichLive

    return RichLive(
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        vertical_overflow="crop",
    )


def elapsed(seconds: float) -> str:
    """Return a duration as `59.9s`, `1:00` or `1:00:00`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if minutes else f"{seconds:.1f}s"
