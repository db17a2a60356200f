"""Print what a command listed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from clinvk.core import exit_codes
from clinvk.core.sanitize import one_line
from clinvk.output import documents
from clinvk.output.streams import Output, note


def note_unreadable(why: str) -> None:
    """Say that a record is missing from what is listed, because it cannot be read."""
    note(f"warning: {one_line(why)}")


def print_listing(value: Any, lines: Iterator[str], *, as_json: bool) -> int:
    """Print a value as a JSON document, or its lines as text; returns the exit code."""
    output = Output(sys.stdout)
    if as_json:
        output.write(documents.dump(value))
    else:
        output.write_all(f"{line}\n" for line in lines)
    return exit_codes.OK
