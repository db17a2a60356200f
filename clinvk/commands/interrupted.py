"""What changes a local run that was interrupted: `clinvk resume`, and `clinvk cancel`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from clinvk.commands import runs
from clinvk.core import exit_codes
from clinvk.local import reach
from clinvk.local.start import RunTakenError
from clinvk.output.presenter import COMMAND, Audience
from clinvk.output.streams import Output, note

if TYPE_CHECKING:
    from clinvk.config.settings import Settings
    from clinvk.output.reporter import View


def resume(
    settings: Settings,
    broker: str | None,
    name: str,
    view: View,
    *,
    detach: bool,
    audience: Audience = COMMAND,
) -> int:
    """Go on with an interrupted run and follow it; follow one that goes on, or has ended."""
    local = None if broker else reach.find(settings, name)
    if local is not None and local.is_interrupted:
        try:
            with reach.resumed(settings, local, detach=detach) as client:
                return runs.attach(client, local.run, view, detach=detach, audience=audience)
        except RunTakenError:
            note(f"clinvk: another process goes on with run {local.run}: following it")
            name = local.run
    with reach.has_run(settings, broker, name) as client:
        return runs.attach(client, name, view, detach=detach, audience=audience)


def cancel(settings: Settings, broker: str | None, name: str) -> int:
    """Cancel a run; of an interrupted one, what has no result will have none."""
    local = None if broker else reach.find(settings, name)
    if local is not None and local.is_interrupted:
        reach.canceled(settings, local)
        Output(sys.stdout).write(f"{local.run} is canceled\n")
        return exit_codes.OK
    with reach.has_run(settings, broker, name) as client:
        return runs.cancel(client, name)
