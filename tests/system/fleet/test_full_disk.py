"""A command that fills its disk harms itself, and no other: on a small disk of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clinvk.backends.base import Command, ProcessResult
from workers.execution import process_tree
from workers.execution.process import OutputLimits, run
from workers.execution.spill import Spill
from workers.execution.stop_signal import StopSignal

DISK_BYTES = 80 << 20
FILL = """
import os, sys
with open(os.path.join(sys.argv[1], "rubbish"), "wb") as rubbish:
    try:
        while True:
            rubbish.write(b"x" * (1 << 20))
            rubbish.flush()
    except OSError as error:
        sys.exit(f"full: {error.strerror}")
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 80 MB (needs root, and fails without)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True
    )
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def execute(
    disk: Path, code: str, *arguments: str, task: int = 0, reserve_bytes: int = 1 << 20
) -> ProcessResult:
    spill = Spill(directory=disk, reserve_bytes=reserve_bytes)
    with StopSignal() as stop:
        return run(
            Command(argv=[sys.executable, "-c", code, *arguments], stdin=b""),
            inherited=os.environb,
            tags={process_tree.TASK_TAG: f"{disk}:{task}:1"},
            stop=stop,
            limits=OutputLimits(output_bytes=1000, spill_bytes=1 << 30, spill=spill),
        )


def test_a_command_that_fills_the_disk_fails_and_the_next_one_does_not(disk: Path) -> None:
    filled = execute(disk, FILL, str(disk))
    assert filled.returncode > 0
    assert filled.stopped_by is None
    answered = execute(disk, "print('x' * 5000)")
    assert answered.returncode == 0
    assert (answered.stdout.head, answered.stdout.size) == (b"x" * 1000, 5001)
    assert answered.stdout.path is None  # there is no room to keep the rest


FLOOD = """
import os, time
written = 0
while written < 1 << 28:  # more than three times the disk
    written += os.write(1, b"y" * (1 << 18))
    time.sleep(0.004)
"""
NEIGHBOUR = """
import pathlib, sys, time
for n in range(200):
    print("line", n, "z" * 400, flush=True)
    time.sleep(0.01)
"""


def test_a_flood_costs_no_task_beside_it(disk: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        flood = pool.submit(execute, disk, FLOOD, task=1, reserve_bytes=40 << 20)
        beside = [
            pool.submit(execute, disk, NEIGHBOUR, task=task, reserve_bytes=40 << 20)
            for task in (2, 3)
        ]
        flooded, *others = [task.result() for task in (flood, *beside)]
    for other in others:
        assert other.returncode == 0, other.stderr.text()
        assert other.stdout.size > 80_000
    assert flooded.returncode == 0, flooded.stderr.text()
    # What is written just as the file is truncated is dropped without being counted.
    assert (1 << 28) - (16 << 20) < flooded.stdout.size <= 1 << 28
    assert flooded.stdout.saved_bytes < 40 << 20


def test_a_flood_on_a_small_disk_ends_and_is_cut(disk: Path) -> None:
    flood = execute(disk, "import sys\nfor _ in range(200): sys.stdout.write('y' * (1 << 20))")
    assert flood.stdout.head == b"y" * 1000
    assert flood.returncode != 0  # it was told that the disk is full
    assert [path.name for path in disk.iterdir()] == []
