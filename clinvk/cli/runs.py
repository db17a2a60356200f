"""The commands about runs that were submitted: runs, status, attach, results, cancel, wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clinvk.cli.options import fleet_command, json_option, quiet_option

if TYPE_CHECKING:
    from clinvk.runs.celery_client import CeleryClient

_run_argument = click.argument("run", metavar="RUN")


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


@fleet_command("status")
@_run_argument
@json_option
def status(client: CeleryClient, run: str, as_json: bool) -> int:
    """Print the state of a run and its counts of tasks."""
    from clinvk.commands import runs

    return runs.status(client, run, as_json=as_json)


@fleet_command("attach")
@_run_argument
@json_option
@quiet_option
def attach(client: CeleryClient, run: str, as_json: bool, quiet: bool) -> int:
    """Follow a run from its beginning.

    The output and the exit code are those of the command that submitted it.
    """
    from clinvk.commands import runs

    return runs.attach(client, run, as_json=as_json, quiet=quiet)


@fleet_command("results")
@_run_argument
@json_option
@click.option("--failed", "only_failed", is_flag=True, help="Print only results that are not ok.")
def results(client: CeleryClient, run: str, as_json: bool, only_failed: bool) -> int:
    """Print the results that a run has so far."""
    from clinvk.commands import runs

    return runs.results(client, run, as_json=as_json, only_failed=only_failed)


@fleet_command("cancel")
@_run_argument
def cancel(client: CeleryClient, run: str) -> int:
    """Cancel a run: stop its running tasks and start no others."""
    from clinvk.commands import runs

    return runs.cancel(client, run)


@fleet_command("wait")
@_run_argument
def wait(client: CeleryClient, run: str) -> int:
    """Wait until a run ends, and exit with its exit code."""
    from clinvk.commands import runs

    return runs.wait(client, run)


COMMANDS = (list_runs, status, attach, results, cancel, wait)
