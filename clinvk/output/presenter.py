"""Show a run, from its beginning to its end: the same whether it was just submitted or not."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from clinvk.core.spec import RunOptions, TaskSpec
from clinvk.output import json_document, progress
from clinvk.output.chain import Chain
from clinvk.output.compare import Compare
from clinvk.output.formatter import Formatter
from clinvk.output.output_dir import OutputDir
from clinvk.output.sanitize import one_line
from clinvk.runs import follow
from clinvk.runs.client import Event, Run
from clinvk.runs.report import EXIT_BROKER, EXIT_OK, EXIT_SIGNAL, EXIT_TASK_FAILED, Report

PIPED_WIDTH = 80
FORMATTERS: dict[str, Formatter] = {"chain": Chain(), "compare": Compare()}
"""Of each kind of run; any other has that of `parallel`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The form that was asked for."""

    as_json: bool = False
    quiet: bool = False
    with_table: bool = True
    form: Formatter = field(default_factory=Formatter)

    @property
    def is_text(self) -> bool:
        """Whether every task gets its line."""
        return not (self.as_json or self.quiet)

    def of(self, kind: str) -> View:
        """Return the same view in the form of this kind of run."""
        return replace(self, form=FORMATTERS.get(kind, self.form))


class Screen:
    """Prints a run to stdout, and what goes on meanwhile to stderr."""

    def __init__(self, view: View, specs: Sequence[TaskSpec], options: RunOptions) -> None:
        self._view = view
        self._form = view.form
        self._specs = specs
        self._options = options
        self._output = progress.Output(sys.stdout)
        self._width = width()

    def submitted(self, run: str) -> None:
        """Say which run was submitted, to whoever leaves it alone."""
        self._output.write(
            json_document.dump({"run_id": run}) if self._view.as_json else f"{run}\n"
        )

    def header(self) -> None:
        """Say what is about to run."""
        if self._view.is_text:
            self._output.write(self._form.header(self._specs, self._options) + "\n\n")

    def show(
        self,
        run: Run,
        specs: Sequence[TaskSpec],
        interruption: follow.Interruption,
        files: OutputDir | None = None,
    ) -> int:
        """Follow a run to its end, print it, and return the exit code."""
        interruption.watch(run)
        saver = _Saver(files, self._form)
        display = progress.choose(
            self._output, specs, quiet=self._view.quiet, data_only=self._view.as_json
        )
        problem: follow.LostTouchError | None = None
        with display:
            interruption.tell = display.tell
            observers = [display.saw, self._line_to(display), saver.saw]
            try:
                report = follow.follow(run, specs, observers, interruption)
            except follow.LostTouchError as error:
                problem, report = error, error.report
            except follow.DetachedError:
                report = None
        interruption.tell = progress.note
        if report is None:
            progress.note(f"Detached; it goes on: clinvk attach {run.id}")
            return EXIT_OK
        saver.close(report)
        self.end(report)
        if problem is not None:
            progress.note(f"clinvk: {problem}")
            if run.outlives_client:
                progress.note(f"The run goes on without us: clinvk attach {run.id}")
            return EXIT_BROKER
        if interruption.number is not None:
            return EXIT_SIGNAL + interruption.number
        return EXIT_TASK_FAILED if self._output.broken or saver.failed else report.exit_code

    def _line_to(self, display: progress.Quiet) -> follow.Observer:
        """Give an observer that prints a line to the display as each task ends."""

        def saw(event: Event) -> None:
            if self._view.is_text and event.result is not None:
                spec = self._specs[event.index]
                line = self._form.ended(spec, event.result, self._width)
                if line is not None:
                    display.print(line)

        return saw

    def end(self, report: Report) -> None:
        """Print the report, and each of its warnings once."""
        if self._view.as_json:
            self._output.write_all(self._form.document(report))
        else:
            self._output.write_all(f"{line}\n" for line in self._last_lines(report))
        for warning in report.warnings():
            progress.note(f"warning: {one_line(warning)}")

    def _last_lines(self, report: Report) -> Iterator[str]:
        if self._view.is_text:
            return self._form.end(report, self._width, with_table=self._view.with_table)
        return iter([self._form.total(report)])


def width() -> int:
    """Return how wide what is printed may be."""
    terminal = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns
    return terminal if sys.stdout.isatty() else PIPED_WIDTH


class _Saver:
    """Writes results to the output directory; a full disk costs the files, not the run."""

    def __init__(self, files: OutputDir | None, form: Formatter) -> None:
        self._files = files
        self._form = form
        self.failed = False

    def saw(self, event: Event) -> None:
        """Save the result of a task that ended."""
        self._attempt(lambda files: files.saw(event, self._form))

    def close(self, report: Report) -> None:
        """Save the summary."""
        self._attempt(lambda files: files.close(report, self._form))

    def _attempt(self, write: Callable[[OutputDir], None]) -> None:
        if self._files is None or self.failed:
            return
        try:
            write(self._files)
        except OSError as error:
            self.failed = True
            progress.note(f"clinvk: output_dir cannot be written: {error.strerror}")
