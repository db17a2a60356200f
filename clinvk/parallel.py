"""`clinvk parallel`, from the task file to the exit code."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clinvk import fleet, progress, taskfile, watch
from clinvk.client import Event
from clinvk.outdir import OutputDir
from clinvk.render import document, plan, text
from clinvk.render.safe import one_line
from clinvk.report import EXIT_BROKER, EXIT_OK, EXIT_SIGNAL, EXIT_TASK_FAILED, Report
from clinvk.settings import broker_problem
from workers.backends import Registry
from workers.errors import UsageError
from workers.spec import RunOptions, TaskSpec

if TYPE_CHECKING:
    from clinvk.cli import ParallelOptions
    from clinvk.settings import Settings

PIPED_WIDTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run with everything decided."""

    specs: Sequence[TaskSpec]
    sources: Sequence[str]
    run_options: RunOptions
    output_dir: str | None
    broker_url: str | None
    as_json: bool
    quiet: bool
    with_table: bool


def run(settings: Settings, options: ParallelOptions) -> int:
    """Run a task file, or show what would run; returns the exit code."""
    job = decide(settings, options)
    if options.dry_run:
        return show_plan(settings, job)
    return execute(settings, job)


def decide(settings: Settings, options: ParallelOptions) -> Job:
    """Read the task file and settle every setting."""
    content, name = taskfile.read(options.file, sys.stdin.buffer)
    batch = taskfile.parse(content, name, settings.backends)
    if options.broker and (problem := broker_problem(options.broker)):
        raise UsageError(f"--broker: {problem}")
    pick = settings.pick
    return Job(
        specs=[settings.resolve(spec) for spec in batch.tasks],
        sources=batch.sources,
        run_options=RunOptions(
            max_parallel=pick(options.max_parallel, batch.max_parallel, "parallel", "max_workers"),
            fail_fast=pick(options.fail_fast, batch.fail_fast, "parallel", "fail_fast"),
        ),
        output_dir=pick(options.output_dir, batch.output_dir, "output_dir"),
        broker_url=pick(options.broker, None, "broker_url") or None,
        as_json=options.as_json,
        quiet=options.quiet,
        with_table=settings.config.parallel.aggregate_output,
    )


def show_plan(settings: Settings, job: Job) -> int:
    """Print every command as it would run."""
    registry = Registry.from_config(settings.worker.backends)
    planned = plan.plan(job.specs, job.sources, registry.get)
    output = progress.Output(sys.stdout)
    if job.as_json:
        output.write(document.dump(plan.document(planned)))
    else:
        output.write("".join(line + "\n" for line in plan.lines(planned)))
    for warning in dict.fromkeys(w for _, _, command in planned for w in command.warnings):
        progress.note(f"warning: {one_line(warning)}")
    return EXIT_OK


def execute(settings: Settings, job: Job) -> int:
    """Run the tasks and print what became of them."""
    files = OutputDir(job.output_dir, job.specs) if job.output_dir else None
    output = progress.Output(sys.stdout)
    printer = Printer(job, output)
    slots = min(job.run_options.max_parallel, len(job.specs))
    queues = sorted({spec.queue for spec in job.specs})
    problem: watch.LostTouchError | None = None
    with (
        fleet.connect(
            job.broker_url,
            worker=settings.worker,
            queues=queues,
            slots=slots,
            server=settings.config.local.server,
        ) as client,
        watch.Interruption() as interruption,
    ):
        printer.header()
        run = client.submit(job.specs, job.run_options)
        interruption.watch(run)
        display = progress.choose(output, job.specs, quiet=job.quiet, data_only=job.as_json)
        with display:
            interruption.tell = display.tell
            saver = Saver(files)
            observers = [display.saw, printer.line_to(display), saver.saw]
            try:
                report = watch.follow(run, job.specs, observers)
            except watch.LostTouchError as error:
                problem, report = error, error.report
        interruption.tell = progress.note
        saver.close(report)
        printer.end(report)
    warn(report)
    if problem is not None:
        progress.note(f"clinvk: {problem}")
        return EXIT_BROKER
    if interruption.number is not None:
        return EXIT_SIGNAL + interruption.number
    if output.broken or saver.failed:
        return EXIT_TASK_FAILED
    return report.exit_code


def warn(report: Report) -> None:
    """Print each warning of a run once."""
    for warning in dict.fromkeys(w for result in report.results for w in result.warnings):
        progress.note(f"warning: {one_line(warning)}")


class Printer:
    """Writes a run to stdout in the form that was asked for."""

    def __init__(self, job: Job, output: progress.Output) -> None:
        self._job = job
        self._output = output
        self._is_text = not (job.as_json or job.quiet)
        terminal = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns
        self._width = terminal if sys.stdout.isatty() else PIPED_WIDTH

    def header(self) -> None:
        """Say what is about to run."""
        options = self._job.run_options
        if self._is_text:
            first = text.header(
                len(self._job.specs), options.max_parallel, fail_fast=options.fail_fast
            )
            self._output.write(first + "\n\n")

    def line_to(self, display: progress.Quiet) -> watch.Observer:
        """Give an observer that prints a line to the display as each task ends."""

        def saw(event: Event) -> None:
            if self._is_text and event.result is not None:
                display.print(text.ended(event.result, self._width))

        return saw

    def end(self, report: Report) -> None:
        """Print the report."""
        if self._job.as_json:
            self._output.write(document.dump(document.document(report)))
            return
        lines = [text.total(report)]
        if self._is_text:
            table = text.table(report, self._width) if self._job.with_table else ()
            lines = ["", *table, *lines]
        self._output.write("\n".join(lines) + "\n")


class Saver:
    """Writes results to the output directory; a full disk costs the files, not the run."""

    def __init__(self, files: OutputDir | None) -> None:
        self._files = files
        self.failed = False

    def saw(self, event: Event) -> None:
        """Save the result of a task that ended."""
        self._attempt(lambda files: files.saw(event))

    def close(self, report: Report) -> None:
        """Save the summary."""
        self._attempt(lambda files: files.close(report))

    def _attempt(self, write: Callable[[OutputDir], None]) -> None:
        if self._files is None or self.failed:
            return
        try:
            write(self._files)
        except OSError as error:
            self.failed = True
            progress.note(f"clinvk: output_dir cannot be written: {error.strerror}")
