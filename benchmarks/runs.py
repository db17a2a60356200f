"""What `clinvk runs` takes with 1,000 local runs on record, against the interpreter's own start.

python -m benchmarks runs
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROUNDS = 15
TASK = json.dumps([{"backend": "noop", "prompt": "x"}] * 3)
CONFIG = "backends: {noop: {command: [/bin/true]}}\n"


def measure(runs: int = 1000) -> Iterator[tuple[object, ...]]:
    """Yield what it takes to list the newest, and all, in elapsed and in processor time."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        environment = {key: os.environ[key] for key in os.environ if not key.startswith("CLINVK_")}
        environment["HOME"] = name
        fill(home, environment, runs)
        clinvk = [sys.executable, "-m", "clinvk", "runs"]
        commands = [
            [sys.executable, "-c", "pass"],
            clinvk,
            [*clinvk, "--limit", str(runs)],
            [*clinvk, "--limit", str(runs), "--json"],
        ]
        floor, *measured = in_turns(commands, environment)
    for what, (elapsed, used) in zip(
        ("", " --limit N", " --limit N --json"), measured, strict=True
    ):
        name = f"clinvk runs{what.replace('N', str(runs))}, {runs} on record"
        yield name, elapsed, "s", floor[0], "python -c pass"
        yield f"{name}, processor time", used, "s", floor[1], "python -c pass"


def fill(home: Path, environment: Mapping[str, str], runs: int) -> None:
    """Make a run, and copies of what it has left, each with a name of its own."""
    (home / "config.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "clinvk", "parallel", "--config", str(home / "config.yaml")]
    subprocess.run(
        command, input=TASK, text=True, env=environment, capture_output=True, check=False
    )
    (first,) = (home / ".clinvk" / "runs").glob("2*")
    for number in range(runs - 1):
        copy = first.with_name(f"20260102-{number:06}-abcdef01")
        shutil.copytree(first, copy)
        for path in copy.rglob("*"):
            if path.is_file() and path.name == "summary.json":
                path.write_text(path.read_text().replace(first.name, copy.name))


def in_turns(
    commands: Sequence[Sequence[str]], environment: Mapping[str, str]
) -> list[tuple[float, float]]:
    """Run commands in turns; returns each one's median of elapsed and of processor time."""
    rows = [
        [one(command, environment) for command in commands]
        for _ in range(ROUNDS + 1)  # the first warms the disk cache
    ]
    return [
        (statistics.median(row[0] for row in column), statistics.median(row[1] for row in column))
        for column in zip(*rows[1:], strict=True)
    ]


def one(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    elapsed, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return elapsed, used
