"""Ask a CLI something that costs nothing, such as its version."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

COMMAND_SECONDS = 60.0


def ask(argv: Sequence[str], environment: Mapping[bytes, bytes] | None) -> tuple[str, int | None]:
    """Return the first line that a command prints, and 0; or why it fails, and None."""
    try:
        done = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS,
            check=False,
            cwd=Path("/"),  # no project's settings
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error), None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        return said[-1][:200] if said else f"exit code {done.returncode}", None
    return done.stdout.strip().partition("\n")[0][:100], 0
