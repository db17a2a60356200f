"""The command for who runs the server of a fleet: acl."""

from __future__ import annotations

from collections.abc import Sequence

import click


@click.command()
@click.option(
    "--user",
    "users",
    multiple=True,
    metavar="NAME[:ROLE]",
    help="Only this user; repeatable. ROLE is submitter (default), worker or monitor.",
)
@click.option(
    "--passwords",
    metavar="FILE",
    help="Read NAME=PASSWORD lines from FILE; if it does not exist, create it with random ones.",
)
@click.option(
    "--database",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    show_default=True,
    help="The database in the broker's URL.",
)
@click.option(
    "--server-version",
    default="8",
    metavar="V",
    show_default=True,
    help="The version of Redis; Redis 7.0 refuses rules about newer commands.",
)
def acl(users: Sequence[str], passwords: str | None, database: int, server_version: str) -> int:
    """Print users for the Redis server of a fleet, each with the rights that it needs.

    Save it as the server's aclfile. Submitters use the fleet, workers serve it,
    monitors only look (celery inspect, Flower, KEDA).
    """
    from clinvk.commands import acl as commands

    return commands.print_users(users, passwords, database, server_version)


COMMANDS = (acl,)
