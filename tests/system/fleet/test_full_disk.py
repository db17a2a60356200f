"""A command that fills its disk harms itself, and no other: on a small disk of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clinvk.backends.base import Command, ProcessResult
from workers.execution import process_tree
from workers.execution.process import OutputLimits, run
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


def execute(disk: Path, code: str, *arguments: str) -> ProcessResult:
    with StopSignal() as stop:
        return run(
            Command(argv=[sys.executable, "-c", code, *arguments], stdin=b""),
            inherited=os.environb,
            tags={process_tree.TASK_TAG: f"{disk}:0:1"},
            stop=stop,
            limits=OutputLimits(output_bytes=1000, spill_bytes=1 << 30, spill_dir=disk),
        )


def test_a_command_that_fills_the_disk_fails_and_the_next_one_does_not(disk: Path) -> None:
    filled = execute(disk, FILL, str(disk))
    assert filled.returncode > 0
    assert filled.stopped_by is None
    answered = execute(disk, "print('x' * 5000)")
    assert answered.returncode == 0
    assert (answered.stdout.head, answered.stdout.size) == (b"x" * 1000, 5001)
    assert answered.stdout.path is None  # there is no room to keep the rest


def test_a_flood_on_a_small_disk_ends_and_is_cut(disk: Path) -> None:
    flood = execute(disk, "import sys\nfor _ in range(200): sys.stdout.write('y' * (1 << 20))")
    assert flood.stdout.head == b"y" * 1000
    assert flood.returncode != 0  # it was told that the disk is full
    assert [path.name for path in disk.iterdir()] == []
