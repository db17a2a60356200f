"""Limits that are over in a second where clinvk waits for a minute: for tests with real processes.

    env["PYTHONPATH"] = quick_limits.python_path(folder)

Every Python process that is started with it replaces the times of `lua/lib/gates.lua` in the
store's scripts, as it reads them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

FACTOR = 60
TIMES = (
    *("LADDER_MS", "LATE_RESET_MS", "LATE_RESET_JITTER_MS", "HOLD_MS", "GROW_AGAIN_MS", "PACE_MS"),
)
ROOT = Path(__file__).parent.parent
AT_START = "from tests import quick_limits\nquick_limits.install()\n"
_TIME = re.compile(rf"^(local (?:{'|'.join(TIMES)}) = )(.*?)$", re.MULTILINE)


def python_path(folder: Path) -> str:
    """Write what Python runs at its start; returns the PYTHONPATH with which it does."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(AT_START)
    return f"{site}{os.pathsep}{ROOT}"


def quick(script: str) -> str:
    """Return a script with shorter times."""

    def shorter(found: re.Match[str]) -> str:
        return found[1] + re.sub(r"\d{3,}", lambda number: str(int(number[0]) // FACTOR), found[2])

    return _TIME.sub(shorter, script)


def check(scripts: Iterable[str]) -> None:
    """Make sure that the scripts have all of the times, each where it is used.

    Raises:
        ValueError: one has another name.
    """
    found = {name for script in scripts for name in TIMES if f"local {name} = " in script}
    if found != set(TIMES):
        raise ValueError(f"the times of gates have other names than {TIMES}")


def install() -> None:
    """Have the store's scripts in this process be quick."""
    from clinvk.store import scripts

    as_they_are = scripts.operations

    @cache
    def operations() -> Mapping[str, scripts.Operation]:
        found = as_they_are()
        check(each.text for each in found.values())
        return {name: replace(each, text=quick(each.text)) for name, each in found.items()}

    scripts.operations = operations
