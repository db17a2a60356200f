"""`clinvk parallel`, from the task file to the exit code; what other runs do in the same way."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clinvk.backends import BackendRegistry
from clinvk.core.errors import UsageError
from clinvk.core.spec import RunOptions, TaskSpec, queue_of
from clinvk.local import reach
from clinvk.output import json_document, plan, progress
from clinvk.output.output_dir import OutputDir
from clinvk.output.presenter import Screen, View
from clinvk.output.sanitize import one_line
from clinvk.runs import follow
from clinvk.runs.report import EXIT_OK
from clinvk.taskfile import reader

if TYPE_CHECKING:
    from clinvk.commands.options import CommonOptions, ParallelOptions
    from clinvk.config.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A run with everything decided."""

    specs: Sequence[TaskSpec]
    sources: Sequence[str]
    backends: Collection[str]
    run_options: RunOptions
    output_dir: str | None
    broker_url: str | None
    run_key: str
    detach: bool
    wait_for_workers: bool
    view: View


def run(settings: Settings, options: ParallelOptions) -> int:
    """Run a task file, or show what would run; returns the exit code."""
    return carry_out(settings, options, decide(settings, options))


def decide(settings: Settings, options: ParallelOptions) -> PlannedRun:
    """Read the task file and settle every setting."""
    with reader.opened(options.file, sys.stdin.buffer) as (stream, name):
        batch = reader.parse(
            stream, name, settings.backends, settings.resolve, is_lenient=options.lenient
        )
    pick = settings.pick
    run_options = RunOptions(
        max_parallel=pick(options.max_parallel, batch.max_parallel, "parallel", "max_workers"),
        fail_fast=pick(options.fail_fast, batch.fail_fast, "parallel", "fail_fast"),
    )
    return plan_run(
        settings,
        options,
        batch.tasks,
        batch.sources,
        batch.backends,
        run_options,
        batch.output_dir,
    )


def plan_run(
    settings: Settings,
    options: CommonOptions,
    specs: Sequence[TaskSpec],
    sources: Sequence[str],
    backends: Collection[str],
    run_options: RunOptions,
    output_dir: str | None = None,
) -> PlannedRun:
    """Settle what is the same for each kind of run; `output_dir` is the file's own.

    Of the tasks, all is settled (`Settings.resolve`), and `backends` are those that they name.
    """
    settings.load_backends(backends)
    view = View(
        as_json=options.as_json,
        quiet=options.quiet,
        with_table=settings.config.parallel.aggregate_output,
    )
    return PlannedRun(
        specs=specs,
        sources=sources,
        backends=backends,
        run_options=replace(
            run_options,
            priority=options.priority,
            keep_seconds=settings.config.runs.keep_days * 86400,
        ),
        output_dir=settings.pick(options.output_dir, output_dir, "output_dir"),
        broker_url=settings.broker_url(options.broker),
        run_key=options.run_key or "",
        detach=options.detach,
        wait_for_workers=options.wait_for_workers,
        view=view.of(run_options.kind),
    )


def carry_out(settings: Settings, options: CommonOptions, planned: PlannedRun) -> int:
    """Start a planned run, or show what it would run."""
    return show_plan(settings, planned) if options.dry_run else execute(settings, planned)


def show_plan(settings: Settings, planned: PlannedRun) -> int:
    """Print every command as it would run."""
    registry = BackendRegistry.from_config(settings.worker.backends)
    warnings: dict[str, None] = {}

    def rows() -> Iterator[plan.Planned]:
        for item in plan.plan(planned.specs, planned.sources, registry.get):
            warnings.update(dict.fromkeys(item[2].warnings))
            yield item

    progress.Output(sys.stdout).write_all(
        json_document.listing({}, "tasks", plan.entries(rows()))
        if planned.view.as_json
        else (f"{line}\n" for line in plan.lines(rows()))
    )
    for warning in warnings:
        progress.note(f"warning: {one_line(warning)}")
    return EXIT_OK


def execute(settings: Settings, planned: PlannedRun) -> int:
    """Run the tasks and print what became of them."""
    if planned.broker_url is None and (planned.detach or planned.run_key):
        raise UsageError(
            "--detach and --run-key need a broker: a private one ends with the command"
        )
    files = OutputDir(planned.output_dir, planned.specs) if planned.output_dir else None
    screen = Screen(planned.view, planned.specs, planned.run_options)
    with (
        reach.connect(
            planned.broker_url,
            worker=settings.worker,
            queues=sorted(map(queue_of, planned.backends)),
            slots=min(planned.run_options.max_parallel, len(planned.specs)),
            server=settings.config.local.server,
        ) as client,
        follow.Interruption(progress.note) as interruption,
    ):
        if planned.broker_url is not None and not planned.wait_for_workers:
            client.check_served(planned.backends)
        run = client.submit(planned.specs, planned.run_options, planned.run_key)
        if planned.detach:
            screen.submitted(run.id)
            return EXIT_OK
        screen.header()
        return screen.show(run, planned.specs, interruption, files)
