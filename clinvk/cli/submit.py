"""The commands that submit a run: parallel, chain, compare."""

from __future__ import annotations

from typing import Any

import click

from clinvk.cli import completion
from clinvk.cli.options import options_of_runs, take_paths
from clinvk.commands.options import ChainOptions, CompareOptions, ParallelOptions


@click.command()
@click.option(
    "-f", "--file", metavar="FILE", help="Read tasks from this file instead of standard input."
)
@click.option(
    "-p",
    "--prompt",
    metavar="PROMPT",
    help="Run this prompt for each file or line: Review {file}. - is standard input.",
)
@click.option(
    "--each",
    multiple=True,
    metavar="GLOB",
    help="A task for each file: {file}, {stem} and {content} in the prompt. Repeatable.",
)
@click.option(
    "--each-line",
    metavar="FILE",
    help="A task for each line: {line}; for each row of a .csv file: {column}.",
)
@click.option(
    "--backend",
    metavar="NAME[:MODEL]",
    help="The backend for --prompt.",
    shell_complete=completion.backends,
)
@click.option(
    "--max-parallel", type=click.IntRange(min=1), metavar="N", help="Run at most N tasks at once."
)
@click.option(
    "--fail-fast/--no-fail-fast", default=None, help="Cancel the run at the first failed task."
)
@click.option("--lenient", is_flag=True, help="Extract the task file from model output.")
@options_of_runs
def parallel(config: str | None, **options: Any) -> int:
    """Run the tasks of a file at once and print ordered results.

    Exit codes: 0 every task is ok, 1 a task failed, was canceled or lost, 2 bad usage or task
    file, 3 bad configuration, 4 the broker cannot be reached, 130 interrupted.
    """
    from clinvk.commands import parallel
    from clinvk.config import settings

    return parallel.run(settings.load(config), ParallelOptions(**take_paths(options)))


@click.command()
@click.option(
    "-f", "--file", metavar="FILE", help="Read steps from this file instead of standard input."
)
@options_of_runs
def chain(config: str | None, **options: Any) -> int:
    """Run the steps of a file one after another.

    A prompt can use the output of earlier steps: {{previous}}, {{steps.NAME.output}}.
    The exit codes are those of `clinvk parallel`.
    """
    from clinvk.commands import chain
    from clinvk.config import settings

    return chain.run(settings.load(config), ChainOptions(**take_paths(options)))


@click.command()
@click.argument("prompt", required=False)
@click.option(
    "-f", "--file", metavar="FILE", help="Read the prompt from this file; - is standard input."
)
@click.option(
    "--backends",
    metavar="NAMES",
    help="Compare these backends: claude:opus,codex.",
    shell_complete=completion.backends,
)
@click.option("--all-backends", is_flag=True, help="Compare every backend that is available.")
@click.option("--sequential", is_flag=True, help="Ask one backend after another.")
@click.option(
    "--side-by-side", is_flag=True, help="Print the answers in columns on a wide terminal."
)
@click.option(
    "--workspace",
    type=click.Choice(["shared", "worktree"]),
    help="Where each works: worktree is a checkout of its own.",
)
@click.option("--schema", metavar="FILE", help="Answers must be valid by this JSON Schema.")
@click.option("--verify", metavar="COMMAND", help="Run this after each, and rank by it.")
@options_of_runs
def compare(config: str | None, **options: Any) -> int:
    """Send one prompt to several backends and print all answers.

    PROMPT is the text itself, or - for standard input.
    The exit codes are those of `clinvk parallel`.
    """
    from clinvk.commands import compare
    from clinvk.config import settings

    return compare.run(settings.load(config), CompareOptions(**take_paths(options)))


COMMANDS = (parallel, chain, compare)
