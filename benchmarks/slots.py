"""Resident memory of a worker: with nothing to do, and for each slot more that runs a task.

The worker's own process. Its supervisor is counted apart; the CLIs are not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.private import workers
from benchmarks.scale import Row, server
from clinvk.store.store import Store

FEW, MANY = 4, 256
CONFIG = "backends: {waits: {command: [/bin/sleep, '600']}}\n"
TIMEOUT_SECONDS = 120.0


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as (url, store):
        config = Path(name) / "config.yaml"
        config.write_text(CONFIG)
        few, many = (measured(url, store, config, slots) for slots in (FEW, MANY))
    yield "memory of a worker with nothing to do", few["idle"], "MiB", None, ""
    yield "memory of its supervisor", few["supervisor"], "MiB", None, ""
    yield f"memory of a worker that runs {MANY} tasks", many["busy"], "MiB", None, ""
    each = 1024 * (many["busy"] - few["busy"]) / (MANY - FEW)
    yield f"memory of each slot from {FEW} to {MANY}, all busy", each, "KiB", None, ""


def measured(url: str, store: Store, config: Path, slots: int) -> dict[str, float]:
    """Return the memory of a worker with so many slots, idle and with all of them busy, in MiB."""
    file = config.with_name("tasks.jsonl")
    file.write_text('{"backend": "waits", "prompt": "x"}\n' * slots)
    clinvk = [sys.executable, "-m", "clinvk"]
    with workers(url, store, config, "waits", 1, slots):
        (entry,) = store.workers().values()
        worker = psutil.Process(entry["pid"])
        found = {"idle": resident(worker)}
        found["supervisor"] = sum(resident(child) for child in worker.children())
        argv = [*clinvk, "parallel", "--broker", url, "--config", str(config), "--detach"]
        argv += ["--file", str(file), "--max-parallel", str(slots)]
        run = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
        give_up_at = time.monotonic() + TIMEOUT_SECONDS
        while len(worker.children()) < slots + 1:
            if time.monotonic() > give_up_at:
                raise TimeoutError
            time.sleep(0.1)
        found["busy"] = resident(worker)
        subprocess.run([*clinvk, "cancel", run, "--broker", url], check=True, capture_output=True)
        subprocess.run([*clinvk, "wait", run, "--broker", url], check=False, capture_output=True)
    return found


def resident(process: psutil.Process) -> float:
    return process.memory_info().rss / (1 << 20)
