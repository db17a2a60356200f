"""The commands that look at a fleet and control it: worker, workers, queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clinvk.cli import completion
from clinvk.cli.options import broker_option, config_option, fleet_command, json_option

if TYPE_CHECKING:
    from clinvk.runs.celery_client import CeleryClient


@click.command()
@click.option(
    "--queues",
    metavar="NAMES",
    help="Serve these backends; default: all that are installed here.",
    shell_complete=completion.backends,
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=3,
    metavar="N",
    show_default=True,
    help="Run at most N tasks at once.",
)
@click.option(
    "--name",
    default="clinvk",
    metavar="NAME",
    show_default=True,
    help="Name this worker NAME@HOST.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG",
    help="Tag this worker, for runs that require it; may be repeated.",
)
@broker_option
@config_option
def worker(
    config: str | None,
    broker: str | None,
    queues: str | None,
    concurrency: int,
    name: str,
    tags: tuple[str, ...],
) -> int:
    """Run tasks of a fleet on this machine.

    SIGTERM stops the worker once its running tasks have ended.
    """
    from clinvk.commands import worker
    from clinvk.config import settings

    worker.run(settings.load(config), broker, queues, concurrency, name, tags)


@fleet_command("workers")
@json_option
def workers(client: CeleryClient, as_json: bool) -> int:
    """List live workers."""
    from clinvk.commands import workers

    return workers.list_workers(client, as_json=as_json)


@click.group(invoke_without_command=True)
@json_option
@broker_option
@config_option
@click.pass_context
def queues(context: click.Context, config: str | None, broker: str | None, as_json: bool) -> int:
    """List queues, or change their limits."""
    if context.invoked_subcommand is not None:
        return 0
    from clinvk.commands import fleet, queues
    from clinvk.config import settings

    with fleet.fleet(settings.load(config), broker) as client:
        return queues.list_queues(client, as_json=as_json)


_queue_argument = click.argument("name", metavar="QUEUE", shell_complete=completion.queues)


@fleet_command("set")
@_queue_argument
@click.option(
    "--max-concurrency",
    type=click.IntRange(min=0),
    metavar="N",
    help="Run at most N tasks of this queue at once; 0 removes the limit.",
)
@click.option(
    "--rate",
    metavar="RATE",
    help="Start at most this many tasks, such as 50/min; none removes the limit.",
)
def set_limits(
    client: CeleryClient, name: str, max_concurrency: int | None, rate: str | None
) -> int:
    """Set the limits of a queue for the whole fleet.

    The limits take effect immediately and are printed.
    """
    from clinvk.commands import queues

    return queues.set_limits(client, name, max_concurrency, rate)


@fleet_command("pause")
@_queue_argument
@click.option(
    "--until",
    metavar="TIME",
    help="Only until then: 14:00, 2026-01-02T14:00:00Z, or 30m from now.",
)
def pause(client: CeleryClient, name: str, until: str | None) -> int:
    """Stop starting tasks of a queue; running tasks continue."""
    from clinvk.commands import queues

    return queues.pause(client, name, until)


@fleet_command("resume")
@_queue_argument
def resume(client: CeleryClient, name: str) -> int:
    """Start tasks of a queue again at once.

    It may be paused, or closed by a limit of its provider: what was learned of that is forgotten.
    """
    from clinvk.commands import queues

    return queues.resume(client, name)


for _command in (set_limits, pause, resume):
    queues.add_command(_command)

COMMANDS = (worker, workers, queues)
