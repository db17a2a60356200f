"""The interface of an output form: what it learns about a run, and what it may do with that."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from clinvk.core.spec import RunOptions, TaskSpec
from clinvk.output.formatter import Formatter
from clinvk.output.streams import Streams
from clinvk.output.whole_file import writable_file, write_whole
from clinvk.runs.client import Event, StepsWanted
from clinvk.runs.report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The output that the user asked for.

    `with_table` prints a table of all results at the end of the text, `with_steps` what each agent
    does. `paths` has the path of each
    form that writes files, by the form's name. Where it `is_silent`, only those forms are there.
    """

    as_json: bool = False
    quiet: bool = False
    with_table: bool = True
    with_steps: bool = False
    is_silent: bool = False
    paths: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_text(self) -> bool:
        """Whether results are printed as text."""
        return not (self.as_json or self.quiet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """All that an output form needs to know of the run that it shows.

    `width` is the number of terminal cells of a line of text; `header` is the line that says what
    is about to run, if not the formatter's.
    """

    view: View
    formatter: Formatter
    specs: Sequence[TaskSpec]
    options: RunOptions
    streams: Streams
    width: int
    header: str | None = None


class Reporter:
    """One form of output for one run; each form overrides what concerns it.

    `begin`, then `saw` for each event, then `stop`, then `end`; for a run that is only submitted
    and not followed, `submitted` alone. All are called in one thread.
    """

    steps_wanted: StepsWanted = "none"
    """Which steps of the run the form wants to see."""

    @property
    def has_failed(self) -> bool:
        """Whether something could not be written; the exit code is then not 0."""
        return False

    def submitted(self, run_id: str) -> None:
        """Report a run that goes on without this process."""

    def begin(self) -> None:
        """Report that the run was submitted and is followed from here."""

    def saw(self, event: Event) -> None:
        """Report an event of the run: all but those that are noted on stderr (`follow`)."""

    def stop(self) -> None:
        """Take down what is only shown while the run goes on; called after errors, too."""

    def end(self, report: Report) -> None:
        """Report the results of the run, which has ended."""


class StdoutReporter(Reporter):
    """A form that prints to stdout."""

    def __init__(self, presentation: Presentation) -> None:
        self.streams = presentation.streams
        self.formatter = presentation.formatter

    @property
    def has_failed(self) -> bool:
        """Whether stdout could not be written."""
        return self.streams.output.broken

    def submitted(self, run_id: str) -> None:
        """Print which run was submitted."""
        self.streams.write(f"{run_id}\n")


class FileReporter(Reporter):
    """A form that writes to a file or a directory; an error ends the form and not the run.

    A subclass overrides `write_event` and `write_report`, which may raise OSError.

    Attributes:
        name: the form's name, as in `FORMS`.
        path: where it writes.
    """

    name: str

    def __init__(self, streams: Streams, path: Path) -> None:
        self.path = path
        self._streams = streams
        self._has_failed = False

    @property
    def has_failed(self) -> bool:
        """Whether a file could not be written."""
        return self._has_failed

    def write_event(self, event: Event) -> None:
        """Write what follows from an event."""

    def write_report(self, report: Report) -> None:
        """Write what follows from the end of the run."""

    def saw(self, event: Event) -> None:
        """Write what follows from an event, if nothing has failed yet."""
        self._attempt(lambda: self.write_event(event))

    def end(self, report: Report) -> None:
        """Write what follows from the end of the run, if nothing has failed yet."""
        self._attempt(lambda: self.write_report(report))

    def _attempt(self, write: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            write()
        except OSError as error:
            self._has_failed = True
            problem = f"{self.name}: cannot write to {self.path}: {error.strerror}"
            self._streams.note(f"clinvk: {problem}")


class SingleFile(FileReporter):
    """A form that writes the file which its option names."""

    def __init__(self, presentation: Presentation, path: str) -> None:
        super().__init__(presentation.streams, writable_file(self.name, path))

    @classmethod
    def if_named(cls, presentation: Presentation) -> Self | None:
        """Make the form where a file was named.

        Raises:
            UsageError: the file cannot be written.
        """
        path = presentation.view.paths.get(cls.name)
        return cls(presentation, path) if path else None


class WholeFile(SingleFile):
    """A form that writes its file as a whole when the run has ended."""

    @abstractmethod
    def pieces(self, report: Report) -> Iterable[str]:
        """Return what is in the file, piece by piece."""

    def write_report(self, report: Report) -> None:
        """Write the file."""
        write_whole(self.path, self.pieces(report))
