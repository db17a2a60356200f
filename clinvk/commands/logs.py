"""`clinvk logs`: what the agents of a run did, step by step."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clinvk.commands.options import parse_kinds
from clinvk.core import exit_codes
from clinvk.core.errors import BrokerError, UsageError
from clinvk.core.steps import StepKind, StepRecord
from clinvk.local import reach
from clinvk.output.presenter import width
from clinvk.output.step_lines import StepLines, entry, json_line
from clinvk.output.streams import Output, note

if TYPE_CHECKING:
    from clinvk.config.settings import Settings
    from clinvk.runs.celery_run import CeleryRun


@dataclass(frozen=True, slots=True)
class LogsOptions:
    """The arguments of `clinvk logs`; `kinds` may have several separated by commas."""

    run: str
    task: str | None
    follow: bool
    as_json: bool
    kinds: Sequence[str]


def logs(settings: Settings, broker: str | None, options: LogsOptions) -> int:
    """Print the steps of a run or of one of its tasks; returns the exit code."""
    kinds = parse_kinds(options.kinds, StepKind) or frozenset(StepKind)
    with reach.has_run(settings, broker, options.run) as client:
        run = client.open(options.run)
        index = None if options.task is None else find_task(run, options.task)
        output = Output(sys.stdout, is_quiet=True)
        printer = _Printer(output, kinds, as_json=options.as_json, with_task=index is None)
        for record in _records(run, index, follow=options.follow, is_local=client.ends_with_run):
            printer.print(record)
            if output.broken:
                break
    return exit_codes.OK


def find_task(run: CeleryRun, name: str) -> int:
    """Return the index of a task by its number, as it is shown in brackets, or by its id.

    Raises:
        UsageError: there is none.
    """
    if name.isdecimal():
        if 1 <= int(name) <= run.total:
            return int(name) - 1
        raise UsageError(f"run {run.id} has no task {name}: it has {run.total}, from 1")
    for index, spec in enumerate(run.specs()):
        if spec.id == name:
            return index
    raise UsageError(f'run {run.id} has no task with the id "{name}"')


class _Printer:
    """Prints steps, each at once."""

    def __init__(
        self, output: Output, kinds: Collection[str], *, as_json: bool, with_task: bool
    ) -> None:
        self._output = output
        self._kinds = kinds
        self._as_json = as_json
        cells = width() if output.is_terminal else None
        self._lines = StepLines(with_task=with_task, with_time=True, width=cells)

    def print(self, record: StepRecord) -> None:
        """Print a step, if its kind is wanted; one of a kind that is not known yet is."""
        if record.kind not in self._kinds and record.kind in set(StepKind):
            self._lines.skip(record)
        elif self._as_json:
            self._output.write(json_line(entry(record)))
        else:
            self._output.write("".join(f"{line}\n" for line in self._lines.lines(record)))


def _records(
    run: CeleryRun, index: int | None, *, follow: bool, is_local: bool
) -> Iterator[StepRecord]:
    from clinvk.runs import step_reader

    if not follow:
        yield from step_reader.StepReader(run, index).new()
        return
    away_seconds = 0.0 if is_local else step_reader.AWAY_SECONDS
    try:
        yield from step_reader.follow(run, index, note, away_seconds)
    except BrokerError:
        if not is_local:
            raise
        note(f"clinvk: the local run {run.id} has ended")  # and its server with it
