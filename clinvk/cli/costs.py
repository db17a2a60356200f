"""`clinvk costs`."""

from __future__ import annotations

import click

from clinvk.cli.options import broker_option, config_option, json_option


@click.command()
@click.option(
    "--since",
    metavar="DURATION",
    default="7d",
    show_default=True,
    help="Count the last days: 1d is today and yesterday (UTC).",
)
@click.option(
    "--by",
    type=click.Choice(["run", "backend", "model", "tag", "day", "key"]),
    default="backend",
    show_default=True,
    help="Add up by this; key is who submitted the run.",
)
@json_option
@broker_option
@config_option
def costs(config: str | None, broker: str | None, since: str, by: str, as_json: bool) -> int:
    """Print what runs have cost: the fleet's, or without a broker those of this machine.

    Costs are what CLIs said, or estimates (~). Executions of unknown cost are counted apart.
    """
    from clinvk.commands import costs
    from clinvk.config import settings

    return costs.costs(settings.load(config), broker, since, by, as_json=as_json)


COMMANDS = (costs,)
