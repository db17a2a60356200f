"""Limits that are over in a second where clinvk waits for a minute: for tests with real processes.

    env["PYTHONPATH"] = quick_limits.python_path(folder)

Every Python process that is started with it replaces the times of `lua/lib/gates.lua` in the
store's scripts as it reads them, and those of `workers/execution/next_step.py` as it imports it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

from tests import at_start

FACTOR = 60
OF_GATES = (
    *("LADDER_MS", "LATE_RESET_MS", "LATE_RESET_JITTER_MS", "HOLD_MS", "GROW_AGAIN_MS", "PACE_MS"),
)
OF_TRIES = (
    *("BURST_DELAYS_SECONDS", "LEAST_DELAY_SECONDS", "RETRY_SECONDS", "LONGEST_RETRY_SECONDS"),
    "LEFT_OUT_MS",
)
NEXT_STEP = "workers.execution.next_step"
AT_START = "from tests import quick_limits; quick_limits.install()"
_TIME = re.compile(rf"^(lib\.(?:{'|'.join(OF_GATES)}) = )(.*?)$", re.MULTILINE)


def python_path(folder: Path) -> str:
    """Write what does it into a folder; returns the PYTHONPATH to start Python with."""
    return at_start.python_path(folder, AT_START)


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
    found = {name for script in scripts for name in OF_GATES if f"lib.{name} = " in script}
    if found != set(OF_GATES):
        raise ValueError(f"the times of gates have other names than {OF_GATES}")


def install() -> None:
    """Have limits in this process be over quickly."""
    from clinvk.store import scripts

    as_it_is = scripts.operation
    check(each.text for each in scripts.operations().values())

    @cache
    def operation(name: str) -> scripts.Operation:
        found = as_it_is(name)
        return replace(found, text=quick(found.text))

    scripts.operation = operation
    sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the module with the times of tries."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = (
            importlib.machinery.PathFinder.find_spec(name, path, target)
            if name == NEXT_STEP
            else None
        )
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads it, and shortens its times."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        for name in OF_TRIES:
            value = getattr(module, name)
            is_several = isinstance(value, tuple)
            shorter = [each / FACTOR for each in value] if is_several else value / FACTOR
            setattr(module, name, shorter)
