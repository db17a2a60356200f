"""The process that takes local mode down, whatever happens to the others.

The client starts it, holds one end of a pipe to its stdin, and never writes to it: when the
client ends, by itself or by `kill -9`, the pipe closes. The guard is the parent of the private
server and the worker and adopts every orphan below them (`workers.process_tree`), so it can end
all that was started, even when the worker is dead; then it removes the directory.

Started as `python -m clinvk.guard JSON`, see `Plan`. Reports on stdout, one JSON object a line:
`{"exited": "worker" | "server", "returncode": N}`. A worker that dies is replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from workers import process_tree

GRACE_SECONDS = 5.0
WORKER_RESTARTS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: the command lines, and the directory to remove at the end."""

    directory: str
    server: list[str]
    worker: list[str]


class Guard:
    """Runs a plan until stdin closes."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._log = (Path(plan.directory) / "worker.log").open("ab")
        self._restarts = 0
        self._server = self._start(plan.server)
        self._worker = self._start(plan.worker)

    def _start(self, argv: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    def watch(self, wake_fd: int) -> None:
        """Wait for the client's end or a child's."""
        while True:
            readable, _, _ = select.select([0, wake_fd], [], [])
            if wake_fd in readable and signal.SIGTERM in os.read(wake_fd, 512):
                return
            if 0 in readable and not os.read(0, 512):
                return
            if not self._check_children():
                return

    def _check_children(self) -> bool:
        """Replace a dead worker; False when nothing can go on."""
        process_tree.adopted_alive({self._server.pid, self._worker.pid})  # reaps the ended
        if self._server.poll() is not None:
            report("server", self._server.returncode)
            return False
        if self._worker.poll() is not None:
            report("worker", self._worker.returncode)
            self._end_tasks()
            self._restarts += 1
            if self._restarts > WORKER_RESTARTS:
                return False
            self._worker = self._start(self._plan.worker)
        return True

    def take_down(self) -> None:
        """End everything and remove the directory."""
        # The worker first and at once, so that it starts nothing new; what it ran is ours then.
        self._worker.kill()
        self._worker.wait()
        self._end_tasks()
        self._server.kill()
        self._server.wait()
        shutil.rmtree(self._plan.directory, ignore_errors=True)

    def _end_tasks(self) -> None:
        for _ in range(10):  # a process may start another while it is being ended
            tasks = process_tree.descendants({self._server.pid, self._worker.pid})
            if not tasks:
                return
            process_tree.end(tasks, GRACE_SECONDS)


def report(which: str, returncode: int) -> None:
    """Tell the client that a child has ended."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps({"exited": which, "returncode": returncode}).encode() + b"\n")


def main() -> NoReturn:
    """Run the plan given as the only argument."""
    process_tree.become_subreaper()
    wake_read, wake_write = os.pipe()
    for fd in (wake_read, wake_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    guard = Guard(Plan(**json.loads(sys.argv[1])))
    try:
        guard.watch(wake_read)
    finally:
        guard.take_down()
    sys.exit(0)


if __name__ == "__main__":
    main()
