"""Commands that a task names beside its CLI's: a line for the shell, or a list of arguments."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

SHELL = "/bin/sh"


def command_line(text: str) -> list[str]:
    """Return the arguments that run a line in the shell."""
    return [SHELL, "-c", text]


def shown(argv: Sequence[str]) -> str:
    """Return a command as it is written: the line of a shell, or the arguments, quoted."""
    if len(argv) == 3 and [*argv[:2]] == [SHELL, "-c"]:
        return argv[2]
    return shlex.join(argv)
