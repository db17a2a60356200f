"""The process that has local mode's server and workers, and takes them down, whatever happens.

The client starts it, as early as it can, and holds one end of a pipe to its stdin: when the client
ends, by itself or by `kill -9`, the pipe closes. The supervisor loads all that a worker needs while
the client reads its files; then it gets its orders, starts the server, and forks the workers,
which costs a few milliseconds each. One that dies is replaced in the same way. The supervisor is
their parent and adopts every orphan below them (`workers.execution.process_tree`), so it can end
all that was started, even when a worker is dead; then it removes the directory. Where the
supervisor itself is killed, the workers see the end of a pipe that it holds, and take down what
they can reach.

Started as `python -m clinvk.local.supervisor DIRECTORY`, with the broker in the environment. Its
orders are one JSON object on a line of stdin: `{"server": argv, "workers": [arguments of
workers.__main__, ...], "config": WORKER_CONFIG}`. Reports on stdout, one JSON object a line:
`{"exited": "worker" | "server", "returncode": N}`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from workers.execution import process_tree

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

# Anything more at the top would hold up what the workers need: it is imported where it is used.

GRACE_SECONDS = 5.0
WORKER_RESTARTS = 3
SERVER_POLL_SECONDS = 0.002


class Supervisor:
    """Keeps a server and workers up until stdin closes.

    `wake_fd` is where signals are told (`signal.set_wakeup_fd`).
    """

    def __init__(self, directory: str, wake_fd: int) -> None:
        self._directory = directory
        self._wake_fd = wake_fd
        self._log = os.open(f"{directory}/worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._server: subprocess.Popen[bytes] | None = None
        self._workers: dict[int, Sequence[str]] = {}
        self._restarts = 0
        self._life_read, self._life_write = os.pipe()

    def run(self) -> None:
        """Follow the client's orders until it ends."""
        import json

        os.dup2(self._log, 2)  # what goes wrong from here on
        load_worker()
        from clinvk.core.worker_config import WORKER_CONFIG

        line = self._orders()
        if line is None:
            return
        orders: dict[str, Any] = json.loads(line)
        os.environ[WORKER_CONFIG] = orders["config"]
        self._server = subprocess.Popen(
            orders["server"], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        self._wait_for_server()
        for arguments in orders["workers"]:
            self._fork(arguments)
        self._watch()

    def _orders(self) -> bytes | None:
        """Read a line from the client; None where it has gone, or we are told to end."""
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([0, self._wake_fd], [], [])
            if self._wake_fd in readable and signal.SIGTERM in os.read(self._wake_fd, 512):
                return None
            if 0 in readable:
                piece = os.read(0, 1 << 16)
                if not piece:
                    return None
                line += piece
        return line

    def _wait_for_server(self) -> None:
        """Wait until the server answers: Celery would come back to it only after two seconds.

        Not where there is something else to see to: the client's end, or the server's.
        """
        import socket

        while not select.select([0, self._wake_fd], [], [], SERVER_POLL_SECONDS)[0]:
            with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
                connection.connect(f"{self._directory}/server.sock")
                return

    def _fork(self, arguments: Sequence[str]) -> None:
        pid = os.fork()
        if pid == 0:
            self._become_worker(arguments)
        self._workers[pid] = arguments

    def _become_worker(self, arguments: Sequence[str]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(self._log, 1)
            os.close(self._life_write)
            code = run_worker(arguments, self._directory, self._life_read)
        except BaseException:
            import traceback

            traceback.print_exc()
            raise
        finally:
            os._exit(code)  # nothing of the supervisor's is the worker's to end

    def _watch(self) -> None:
        """Wait for the client's end or a child's."""
        while True:
            readable, _, _ = select.select([0, self._wake_fd], [], [])
            if self._wake_fd in readable and signal.SIGTERM in os.read(self._wake_fd, 512):
                return
            if 0 in readable and not os.read(0, 512):
                return
            if not self._check_children():
                return

    def _check_children(self) -> bool:
        """Replace dead workers; False when nothing can go on."""
        assert self._server is not None
        process_tree.orphans_alive(self._children())  # reaps the ended
        if self._server.poll() is not None:
            report("server", self._server.returncode)
            return False
        for pid in list(self._workers):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended == 0:
                continue
            arguments = self._workers.pop(pid)
            report("worker", os.waitstatus_to_exitcode(status))
            self._end_tasks()
            self._restarts += 1
            if self._restarts > WORKER_RESTARTS:
                return False
            self._fork(arguments)
        return True

    def take_down(self) -> None:
        """End everything and remove the directory."""
        import shutil

        # The workers first and at once, so that they start nothing new; what they ran is ours then.
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
        while self._workers:
            os.waitpid(self._workers.popitem()[0], 0)
        self._end_tasks()
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _end_tasks(self) -> None:
        """End what dead workers left."""
        for _ in range(10):  # a process may start another while it is being ended
            tasks = process_tree.descendants(self._children())
            if not tasks:
                return
            process_tree.end(tasks, GRACE_SECONDS)

    def _children(self) -> set[int]:
        """Return the children that are no orphans."""
        return {*self._workers, *([self._server.pid] if self._server else [])}


def load_worker() -> None:
    """Import all that a worker needs, and keep it shared with those that are forked."""
    import gc

    gc.disable()
    from workers.__main__ import load

    load()
    gc.freeze()
    gc.enable()


def run_worker(arguments: Sequence[str], directory: str, life_fd: int) -> int:
    """Be a worker until it ends, or until the supervisor does: then `life_fd` is at its end."""
    import threading

    from workers.__main__ import main

    def watch() -> None:
        try:
            server = connect()
            os.read(life_fd, 1)
            take_down_alone(directory, server)
        finally:
            os._exit(1)

    threading.Thread(target=watch, name="clinvk-supervisor", daemon=True).start()
    return main(arguments)


def connect() -> Any:
    """Give a standing connection to the server: its socket may be removed before it ends."""
    import redis

    from clinvk.core.worker_config import BROKER_URL
    from clinvk.store.store import redis_url

    server = redis.Redis.from_url(
        redis_url(os.environ[BROKER_URL]), single_connection_client=True, retry=None
    )
    with contextlib.suppress(redis.RedisError):
        server.ping()
    return server


def take_down_alone(directory: str, server: Any) -> None:
    """End what this worker runs, and the server; remove the directory."""
    import shutil

    import redis

    from workers import context

    if context.is_set_up():
        context.current().renewer.close()
    with contextlib.suppress(redis.RedisError):
        server.shutdown(nosave=True)
    shutil.rmtree(directory, ignore_errors=True)


def report(which: str, returncode: int) -> None:
    """Tell the client that a child has ended."""
    import json

    with contextlib.suppress(OSError):
        os.write(1, json.dumps({"exited": which, "returncode": returncode}).encode() + b"\n")


def main() -> int:
    """Supervisor the directory that is the only argument."""
    process_tree.become_subreaper()
    wake_read, wake_write = os.pipe()
    for fd in (wake_read, wake_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    supervisor = Supervisor(sys.argv[1], wake_read)
    try:
        supervisor.run()
    finally:
        supervisor.take_down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
