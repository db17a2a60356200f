"""The commands about runs that were submitted: list them, look at them, wait, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clinvk.cli.options import (
    broker_option,
    config_option,
    fleet_command,
    json_option,
    quiet_option,
    run_argument,
    run_command,
    verbose_option,
)

if TYPE_CHECKING:
    from clinvk.runs.celery_client import CeleryClient


@fleet_command("runs")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    metavar="N",
    show_default=True,
    help="List at most N runs.",
)
@json_option
def list_runs(client: CeleryClient, limit: int, as_json: bool) -> int:
    """List the newest runs."""
    from clinvk.commands import runs

    return runs.list_runs(client, limit, as_json=as_json)


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
    task file. A local run has steps here as long as it goes on.
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


@run_command("cancel")
def cancel(client: CeleryClient, run: str) -> int:
    """Cancel a run: stop its running tasks and start no others."""
    from clinvk.commands import runs

    return runs.cancel(client, run)


@run_command("wait")
def wait(client: CeleryClient, run: str) -> int:
    """Wait until a run ends, and exit with its exit code."""
    from clinvk.commands import runs

    return runs.wait(client, run)


COMMANDS = (list_runs, status, attach, logs, results, cancel, wait)
