"""`clinvk doctor`."""

from __future__ import annotations

from typing import Any

import click

from clinvk.cli.options import broker_option, config_option, json_option


@click.command()
@click.option("--fleet", is_flag=True, help="Look at every live worker, and at what differs.")
@click.option("--probe", is_flag=True, help="Ask each CLI one short question; costs a little.")
@click.option("--fix-hints", "only_hints", is_flag=True, help="Print only what to do.")
@json_option
@broker_option
@config_option
def doctor(config: str | None, **options: Any) -> int:
    """Check CLIs, logins, sandbox, disk, configuration and server, and say what to do.

    Exits with 1 if something that the configuration uses does not work. Without --probe it asks
    no model.
    """
    from clinvk.commands import doctor

    return doctor.run(config, doctor.DoctorOptions(**options))


COMMANDS = (doctor,)
