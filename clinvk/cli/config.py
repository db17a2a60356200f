"""The commands about the configuration: init, config show, config path."""

from __future__ import annotations

import click

from clinvk.cli.options import config_option, json_option


@click.group()
def config() -> None:
    """Show the configuration."""


@config.command()
@json_option
@config_option
def show(config: str | None, as_json: bool) -> int:
    """Print the effective value of every setting and where it was set."""
    from clinvk.commands import config as commands
    from clinvk.config import settings

    return commands.show(settings.load(config), as_json=as_json)


@config.command()
@config_option
def path(config: str | None) -> int:
    """Print the path of the configuration file, whether or not it exists."""
    from clinvk.commands import config as commands

    return commands.path(config)


@click.command()
@config_option
def init(config: str | None) -> int:
    """Write a commented configuration, and tasks.json with a task for each CLI found here.

    Files that exist are kept as they are.
    """
    from clinvk.commands import init

    return init.run(config)


COMMANDS = (config, init)
