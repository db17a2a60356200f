"""`clinvk parallel`: run the tasks of a file at once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from clinvk.commands.submission import Work, carry_out, plan_run
from clinvk.core.spec import RunOptions
from clinvk.taskfile import reader, sources
from clinvk.taskfile.schema import TASKS

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
    with sources.opened(options.file, sys.stdin.buffer) as (stream, name):
        parsed = reader.parse(
            stream, name, settings.backends, TASKS, settings.resolve, is_lenient=options.lenient
        )
    pick, header = settings.pick, parsed.header
    return Work(
        specs=parsed.tasks,
        sources=parsed.sources,
        backends=parsed.backends,
        run_options=RunOptions(
            max_parallel=pick(options.max_parallel, header.max_parallel, "parallel", "max_workers"),
            fail_fast=pick(options.fail_fast, header.fail_fast, "parallel", "fail_fast"),
        ),
        output_dir=header.output_dir,
    )
