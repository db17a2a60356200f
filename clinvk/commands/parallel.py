"""`clinvk parallel`: run the tasks of a file at once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from clinvk.commands.submission import Work, carry_out, plan_run
from clinvk.core.spec import RunOptions
from clinvk.taskfile import reader

if TYPE_CHECKING:
    from clinvk.commands.options import ParallelOptions
    from clinvk.config.settings import Settings


def run(settings: Settings, options: ParallelOptions) -> int:
    """Run a task file, or print what would run; returns the exit code."""
    return carry_out(settings, options, plan_run(settings, options, read(settings, options)))


def read(settings: Settings, options: ParallelOptions) -> Work:
    """Read the task file; what it says of the run gives way to flags and environment.

    Raises:
        TaskFileError: with every problem of the file.
    """
    with reader.opened(options.file, sys.stdin.buffer) as (stream, name):
        batch = reader.parse(
            stream, name, settings.backends, settings.resolve, is_lenient=options.lenient
        )
    pick = settings.pick
    return Work(
        specs=batch.tasks,
        sources=batch.sources,
        backends=batch.backends,
        run_options=RunOptions(
            max_parallel=pick(options.max_parallel, batch.max_parallel, "parallel", "max_workers"),
            fail_fast=pick(options.fail_fast, batch.fail_fast, "parallel", "fail_fast"),
        ),
        output_dir=batch.output_dir,
    )
