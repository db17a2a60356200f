"""A short chaos run with a fixed seed. Long ones: `python -m tests.system.chaos --seeds 20`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.system.chaos import __main__ as chaos

CHAOS_SECONDS = 240


def run_chaos(folder: Path, seed: int, faults: str) -> dict[str, Any]:
    """Raise a chaos run as a process of its own; returns its figures."""
    file = folder / "figures.json"
    size = ("--tasks", "300", "--workers", "5", "--seconds", "8")
    argv = [*harness.PYTHON, "-m", "tests.system.chaos", *size, "--json", str(file)]
    done = subprocess.run(
        [*argv, "--seed", str(seed), "--faults", faults],
        cwd=harness.ROOT,
        capture_output=True,
        text=True,
        timeout=CHAOS_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures: dict[str, Any] = json.loads(file.read_text())["seeds"][str(seed)]
    return figures


@pytest.mark.timeout(CHAOS_SECONDS + 20)
def test_a_fleet_keeps_its_promises_under_faults(tmp_path: Path, temporary: Path) -> None:
    figures = run_chaos(tmp_path, 1, "machine,link,redis,reset,client")
    assert {name: figures[name] for name in chaos.ZEROES} == dict.fromkeys(chaos.ZEROES, 0)
    assert figures["faults"]["worker"] > 0
