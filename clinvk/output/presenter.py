"""Show a run from its beginning to its end, whether it was just submitted or is attached to."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clinvk.core import exit_codes
from clinvk.core.sanitize import one_line
from clinvk.core.spec import RunOptions, TaskSpec
from clinvk.output.budget_words import ended_by_budget
from clinvk.output.formatter import Formatter
from clinvk.output.forms import reporters
from clinvk.output.reporter import Presentation, View
from clinvk.output.streams import Output, Streams
from clinvk.runs import follow
from clinvk.runs.client import Event, Run, StepsWanted
from clinvk.runs.interruption import Interruption, Signals
from clinvk.runs.report import Report

PIPED_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Followed:
    """What is known of a run when nothing more is heard of it.

    `report` is None where the user left the run alone; `broker_lost` is why the report is not
    complete, if it is not.
    """

    report: Report | None
    broker_lost: follow.BrokerLostError | None = None


class Audience:
    """Who follows a run beside its forms of output: here the user of a command, by signals.

    `steps_wanted` are the steps that it wants to see.
    """

    steps_wanted: StepsWanted = "none"

    def interruption(self, note: Callable[[str], None]) -> Interruption:
        """Return what may end the run; `note` writes a line to the user."""
        return Signals(note)

    def began(self, run: Run) -> None:
        """Take note that the run was submitted."""

    def saw(self, event: Event) -> None:
        """Take note of an event; the forms have seen it."""

    def ended(self, followed: Followed) -> None:
        """Take note of the end."""


COMMAND = Audience()


class Presenter:
    """Follows a run with the output forms that the user asked for, and for an audience.

    Raises:
        UsageError: a form cannot write to its path.
    """

    def __init__(
        self,
        view: View,
        formatter: Formatter,
        specs: Sequence[TaskSpec],
        options: RunOptions,
        header: str | None = None,
        audience: Audience = COMMAND,
    ) -> None:
        self._audience = audience
        self._specs = specs
        self._streams = Streams(Output(sys.stdout))
        self._reporters = reporters(
            Presentation(
                view=view,
                formatter=formatter,
                specs=specs,
                options=options,
                streams=self._streams,
                width=width(),
                header=header,
            )
        )

    def note(self, line: str) -> None:
        """Write a line to stderr, in step with what is displayed there."""
        self._streams.note(line)

    def interruption(self) -> Interruption:
        """Return what may end the run, from when it is submitted."""
        return self._audience.interruption(self.note)

    def submitted(self, run_id: str) -> None:
        """Report a run that goes on without this process."""
        for reporter in self._reporters:
            reporter.submitted(run_id)

    def show(self, run: Run, interruption: Interruption) -> int:
        """Follow a run to its end, report it, and return the exit code."""
        interruption.watch(run)
        self._audience.began(run)
        followed = self._follow(run, interruption)
        code = self._end(run, followed, interruption)
        self._audience.ended(followed)
        return code

    def _end(self, run: Run, followed: Followed, interruption: Interruption) -> int:
        if followed.report is None:
            self.note(f"Detached; the run continues: clinvk attach {run.id}")
            return exit_codes.OK
        self._report(followed.report)
        if followed.broker_lost is not None:
            self.note(f"clinvk: {followed.broker_lost}")
            if run.outlives_client:
                self.note(f"The run continues on the fleet: clinvk attach {run.id}")
            return followed.broker_lost.exit_code
        if interruption.number is not None:
            return exit_codes.SIGNAL + interruption.number
        has_failed = any(reporter.has_failed for reporter in self._reporters)
        return exit_codes.TASK_FAILED if has_failed else followed.report.exit_code

    def _follow(self, run: Run, interruption: Interruption) -> Followed:
        handlers = [*(reporter.saw for reporter in self._reporters), self._audience.saw]
        try:
            for reporter in self._reporters:
                reporter.begin()
            steps = self._steps_wanted()
            return Followed(follow.follow(run, self._specs, handlers, interruption, steps))
        except follow.BrokerLostError as error:
            return Followed(error.report, error)
        except follow.DetachedError:
            return Followed(None)
        finally:
            for reporter in self._reporters:
                reporter.stop()

    def _steps_wanted(self) -> StepsWanted:
        """Return which steps are wanted: those of the form that wants most."""
        wanted = {reporter.steps_wanted for reporter in self._reporters}
        wanted.add(self._audience.steps_wanted)
        return "all" if "all" in wanted else "recent" if "recent" in wanted else "none"

    def _report(self, report: Report) -> None:
        """Report how the run ended, and each of its warnings once."""
        for reporter in self._reporters:
            reporter.end(report)
        for warning in report.warnings():
            self.note(f"warning: {one_line(warning)}")
        if report.summary is not None and (line := ended_by_budget(report.summary)):
            self.note(f"clinvk: {line}")


def width() -> int:
    """Return how many terminal cells a line on stdout may have."""
    terminal = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns
    return terminal if sys.stdout.isatty() else PIPED_WIDTH
