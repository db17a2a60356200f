"""`clinvk config`: show the effective configuration."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from clinvk.config import paths
from clinvk.core import exit_codes
from clinvk.output import config as rendering
from clinvk.output.documents import dump
from clinvk.output.streams import Output

if TYPE_CHECKING:
    from clinvk.config.settings import Settings


def show(settings: Settings, *, as_json: bool) -> int:
    """Print every setting, its effective value and where that was set."""
    rows = list(settings.rows())
    Output(sys.stdout).write_all(
        [dump(rendering.document(rows))]
        if as_json
        else (f"{line}\n" for line in rendering.lines(rows))
    )
    return exit_codes.OK


def path(given: str | None) -> int:
    """Print the path of the configuration file, whether or not it exists."""
    Output(sys.stdout).write(f"{paths.locate(given)}\n")
    return exit_codes.OK
