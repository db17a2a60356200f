"""Local runs that are killed, or whose disk is full. More kills: `python -m benchmarks durable`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.durable import kill_runs
from tests import harness

SEEDS = range(5)
DISK_BYTES = 3 << 20
TASKS, OUTPUT_BYTES = 30, 200_000
PRINT = f"import os, sys; sys.stdin.read(); print(os.urandom({OUTPUT_BYTES // 2}).hex())"


@pytest.mark.timeout(400)
def test_whatever_is_killed_no_result_is_lost_or_paid_twice() -> None:
    counts = kill_runs(SEEDS)
    assert counts.runs == len(SEEDS)
    assert counts.lost + counts.paid_twice + counts.left + counts.wrong == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk (needs root, and fails without)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(folder)],
        check=True,
    )
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_run_whose_record_has_no_room_goes_on_without(disk: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    settings = {
        "backends": {"print": {"command": [sys.executable, "-c", PRINT]}},
        "runs": {"dir": str(disk / "runs")},
    }
    config.write_text(json.dumps(settings))
    tasks = json.dumps({"tasks": [{"backend": "print", "prompt": "x"}] * TASKS})
    done = harness.clinvk("parallel", "--config", str(config), "--json", stdin=tasks)
    assert done.status == 0, done.stderr
    outputs = [result["output"] for result in json.loads(done.stdout)["results"]]
    assert [len(output.strip()) for output in outputs] == [OUTPUT_BYTES] * TASKS
    assert "warning: not all of the run is in its record: its disk was full" in done.stderr
    read = harness.clinvk("results", "last", "--config", str(config), "--json")
    assert read.status == 0
    assert "is in its record: its disk was full" in read.stderr
    kept = json.loads(read.stdout)["results"]
    assert 0 < len(kept) < TASKS


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(home)], check=True)
    try:
        tasks = json.dumps({"tasks": [{"backend": "echo", "prompt": "x"}]})
        done = harness.clinvk("parallel", "-q", stdin=tasks, env={"HOME": str(home)})
    finally:
        subprocess.run(["umount", str(home)], check=True)
    assert done.status == 0
    assert done.stderr.startswith("warning: nothing of this run stays once it has ended: ")
    assert "Read-only file system" in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(home) == []  # noqa: PTH208
