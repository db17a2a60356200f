"""`clinvk chain`: a run in which each step waits for the one before it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from clinvk.commands.submission import Work, carry_out, plan_run, resolver
from clinvk.core.requirements import Requirements
from clinvk.core.spec import RunOptions
from clinvk.taskfile import chain, sources

if TYPE_CHECKING:
    from clinvk.commands.options import ChainOptions
    from clinvk.config.settings import Settings


def run(settings: Settings, options: ChainOptions) -> int:
    """Run the steps of a file, or print what would run; returns the exit code."""
    resolve = resolver(settings, options)
    with sources.opened(options.file, sys.stdin.buffer, "file of steps") as (stream, name):
        parsed = chain.parse(stream, name, settings.backends, resolve)
    header = parsed.header
    work = Work(
        specs=parsed.tasks,
        sources=parsed.sources,
        backends=parsed.backends,
        choices=parsed.choices,
        has_fallback=parsed.has_fallback,
        run_options=RunOptions(
            kind="chain",
            max_parallel=1,
            fail_fast=header.stop_on_failure,
            requires=Requirements.of(header.requires or {}),
        ),
        output_dir=header.output_dir,
        max_cost_usd=header.max_cost_usd,
        max_tokens_total=header.max_tokens_total,
    )
    return carry_out(settings, options, plan_run(settings, options, work))
