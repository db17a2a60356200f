"""The commands about runs that were submitted: list them, look at them, wait, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from clinvk.cli.options import (
    broker_option,
    config_option,
    json_option,
    options_of_budgets,
    options_of_output,
    quiet_option,
    run_argument,
    run_command,
    take_paths,
    verbose_option,
)

if TYPE_CHECKING:
    from clinvk.runs.celery_client import CeleryClient


@click.group("runs", invoke_without_command=True)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    metavar="N",
    show_default=True,
    help="List at most N runs.",
)
@json_option
@broker_option
@config_option
@click.pass_context
def list_runs(
    context: click.Context, config: str | None, broker: str | None, limit: int, as_json: bool
) -> int:
    """List the newest runs: the fleet's, or without a broker those of this machine."""
    if context.invoked_subcommand is not None:
        return 0
    from clinvk.commands import list_runs

    return list_runs.list_runs(config, broker, limit, as_json=as_json)


@list_runs.command("rm")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@config_option
def remove(config: str | None, runs: tuple[str, ...]) -> int:
    """Remove the records of local runs, with their results."""
    from clinvk.commands import list_runs
    from clinvk.config import settings

    return list_runs.remove(settings.load(config), runs)


@run_command("status")
@json_option
def status(client: CeleryClient, run: str, as_json: bool) -> int:
    """Print the state of a run and its counts of tasks."""
    from clinvk.commands import runs

    return runs.status(client, run, as_json=as_json)


@run_command("attach")
@json_option
@quiet_option
@verbose_option
def attach(client: CeleryClient, run: str, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Follow a run from its beginning.

    The output and the exit code are those of the command that submitted it.
    """
    from clinvk.commands import runs
    from clinvk.output.reporter import View

    return runs.attach(client, run, View(as_json=as_json, quiet=quiet, with_steps=verbose))


@click.command("logs")
@run_argument
@click.argument("task", metavar="[INDEX|ID]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run, or the task, has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KINDS",
    help="Print only steps of these kinds: tool_call,error.",
)
@broker_option
@config_option
def logs(
    config: str | None,
    broker: str | None,
    run: str,
    task: str | None,
    follow: bool,
    as_json: bool,
    kinds: tuple[str, ...],
) -> int:
    """Print what the agents of a run did, step by step.

    INDEX is a task's number, as the output of the run shows it in brackets; ID is its id in the
    task file.
    """
    from clinvk.commands import logs
    from clinvk.config import settings

    options = logs.LogsOptions(run, task, follow=follow, as_json=as_json, kinds=kinds)
    return logs.logs(settings.load(config), broker, options)


@run_command("results")
@json_option
@click.option("--failed", "only_failed", is_flag=True, help="Print only results that are not ok.")
def results(client: CeleryClient, run: str, as_json: bool, only_failed: bool) -> int:
    """Print the results that a run has so far."""
    from clinvk.commands import runs

    return runs.results(client, run, as_json=as_json, only_failed=only_failed)


@click.command("retry")
@run_argument
@click.option("--failed", is_flag=True, help="Retry tasks that are not ok: the default.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KINDS",
    help="Retry tasks with these kinds of error: rate_limited,timeout.",
)
@click.option(
    "--index",
    "indexes",
    multiple=True,
    metavar="NUMBERS",
    help="Retry these tasks, by the numbers in brackets: 3,7-9.",
)
@click.option("--all", "is_all", is_flag=True, help="Retry every task.")
@click.option("--edit", metavar="FILE", help="Take new tasks from this file.")
@click.option(
    "--max-parallel",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run at most N tasks of the run at once from now on.",
)
@options_of_budgets
@options_of_output
@click.option("--detach", is_flag=True, help="Retry, print the run's id, and exit.")
@click.option(
    "--wait-for-workers", is_flag=True, help="Retry even if no worker serves a backend yet."
)
@broker_option
@config_option
def retry(config: str | None, **options: Any) -> int:
    """Run tasks of a run again, in the same run.

    Results are replaced one by one; what was before is kept in each result under `tried`. The
    output and the exit code are those of the whole run. In a chain, all later steps run again, too.
    """
    from clinvk.commands import retry
    from clinvk.config import settings

    return retry.retry(settings.load(config), retry.RetryOptions(**take_paths(options)))


@click.command("resume")
@run_argument
@json_option
@quiet_option
@verbose_option
@click.option("--detach", is_flag=True, help="Let it go on, print its id, and exit.")
@broker_option
@config_option
def resume(
    config: str | None,
    broker: str | None,
    run: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    detach: bool,
) -> int:
    """Go on with a local run that was interrupted, and follow it from its beginning.

    Tasks that have a result are not run again. A run that goes on is followed as by attach.
    """
    from clinvk.commands import interrupted
    from clinvk.config import settings
    from clinvk.output.reporter import View

    view = View(as_json=as_json, quiet=quiet, with_steps=verbose)
    return interrupted.resume(settings.load(config), broker, run, view, detach=detach)


@run_command("stats")
@json_option
def stats(client: CeleryClient, run: str, as_json: bool) -> int:
    """Print how long tasks of a run waited and ran, what they used, and what limited the run."""
    from clinvk.commands import stats

    return stats.stats(client, run, as_json=as_json)


@run_command("report")
@click.option("-o", "--output", metavar="FILE", required=True, help="Write the page to this file.")
def report(client: CeleryClient, run: str, output: str) -> int:
    """Write a run, as far as it has come, as an HTML page."""
    from clinvk.commands import runs

    return runs.report(client, run, output)


@click.command("cancel")
@run_argument
@broker_option
@config_option
def cancel(config: str | None, broker: str | None, run: str) -> int:
    """Cancel a run: stop its running tasks and start no others."""
    from clinvk.commands import interrupted
    from clinvk.config import settings

    return interrupted.cancel(settings.load(config), broker, run)


@run_command("wait")
def wait(client: CeleryClient, run: str) -> int:
    """Wait until a run ends, and exit with its exit code."""
    from clinvk.commands import runs

    return runs.wait(client, run)


_tasks_argument = click.argument("tasks", metavar="[INDEX|ID]...", nargs=-1)
"""Numbers of tasks, as the output of a run shows them in brackets, or ids."""


@run_command("diff")
@_tasks_argument
@click.option("--stat", is_flag=True, help="Print the files and counts of lines only.")
def diff(client: CeleryClient, run: str, tasks: tuple[str, ...], stat: bool) -> int:
    """Print what tasks changed in their worktrees, as patches.

    INDEX is a task's number, as the output of the run shows it in brackets; ID is its id in the
    task file. Without one, all tasks that changed something are printed.
    """
    from clinvk.commands import diff

    return diff.diff(client, run, tasks, stat=stat)


@run_command("apply")
@_tasks_argument
@click.option("--all-ok", is_flag=True, help="Apply all tasks that are ok, up to a conflict.")
@click.option("--3way", "three_way", is_flag=True, help="Merge where the lines around differ.")
@click.option("--branch", metavar="PREFIX", help="Make a branch PREFIX<number> of each task.")
@click.option("--commit", is_flag=True, help="Commit each task on the current branch.")
def apply(
    client: CeleryClient,
    run: str,
    tasks: tuple[str, ...],
    all_ok: bool,
    three_way: bool,
    branch: str | None,
    commit: bool,
) -> int:
    """Apply what tasks changed to the checkout around the current directory.

    Each task is applied as a whole or not at all. Exit codes: 0 all are applied, 1 one is not.
    """
    from clinvk.commands import apply

    options = apply.ApplyOptions(
        tasks=tasks, all_ok=all_ok, three_way=three_way, branch=branch, commit=commit
    )
    return apply.apply(client, run, options)


@run_command("conflicts")
@json_option
def conflicts(client: CeleryClient, run: str, as_json: bool) -> int:
    """Print which tasks' changes do not go together, with the files.

    Exit codes: 0 all go together, 1 some do not.
    """
    from clinvk.commands import conflicts

    return conflicts.conflicts(client, run, as_json=as_json)


COMMANDS = (
    *(list_runs, status, attach, logs, results, stats, report, retry, resume, cancel, wait),
    *(diff, apply, conflicts),
)
