"""The process that has local mode's server and workers, and takes them down, whatever happens.

The client starts it, as early as it can, and holds one end of a pipe to its stdin: when the client
ends, by itself or by `kill -9`, the pipe closes. The supervisor loads all that a worker needs while
the client reads its files; then it gets its orders, starts the server, and forks the workers,
which costs a few milliseconds each. One that dies is replaced in the same way. The supervisor is
their parent and adopts every orphan below them (`workers.execution.process_tree`), so it can end
all that was started, even when a worker is dead; then it removes the directory. Where the
supervisor itself is killed, the workers see the end of a pipe that it holds, and take down what
they can reach (`clinvk.local.forked_worker`).

Started as `python -m clinvk.local.supervisor DIRECTORY`. On stdin it reads JSON objects, one a
line:

    {"server": argv, "workers": [arguments of `python -m workers`, ...], "config": WORKER_CONFIG}
                                        what to start; the first line, and only that
    {"cancel": RUN, "reason": TEXT}     cancel a run

and on stdout it reports, in the same form, what has ended and the last line of the log:
`{"exited": "worker" | "server" | "supervisor", "returncode": N, "said": TEXT}`. The directory with
the log may be gone when the client reads that.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from clinvk.core.child_environment import passed
from clinvk.local import server
from clinvk.privacy import seclude
from workers import handover
from workers.execution import process_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, NoReturn

    from clinvk.store.store import Store

# Anything more at the top would hold up what the workers need: it is imported where it is used.

GRACE_SECONDS = 5.0
WORKER_RESTARTS = 3
SERVER_POLL_SECONDS = 0.002
MOST_SAID = 500
"""How much of a last line is reported, in characters: a report is one write to a pipe."""
SERVER_ENVIRONMENT = ("LD_LIBRARY_PATH",)
"""What the server gets of the environment beside the common variables; no key of any CLI."""


class Orders:
    """The client's lines on stdin, and the signals that may come instead.

    `wake_fd` becomes readable with each signal (`signal.set_wakeup_fd`).

    Attributes:
        is_over: whether the client has ended, or SIGTERM asked this process to end.
    """

    def __init__(self, wake_fd: int) -> None:
        self._wake_fd = wake_fd
        self._buffer = b""
        self.is_over = False

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for a line, a signal or the client's end; returns whether there was any."""
        readable, _, _ = select.select([0, self._wake_fd], [], [], timeout_seconds)
        if self._wake_fd in readable and signal.SIGTERM in os.read(self._wake_fd, 512):
            self.is_over = True
        if 0 in readable:
            piece = os.read(0, 1 << 16)
            self._buffer += piece
            self.is_over = self.is_over or not piece
        return bool(readable)

    def take(self) -> Iterator[Mapping[str, Any]]:
        """Yield the orders that have come and were not taken yet."""
        while b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            yield json.loads(line)


class LocalSupervisor:
    """Keeps a server and workers up until the client ends."""

    def __init__(self, directory: str, orders: Orders) -> None:
        self._directory = directory
        self._orders = orders
        self._log = os.open(
            f"{directory}/worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode=0o600
        )
        self._server: subprocess.Popen[bytes] | None = None
        self._store: Store | None = None
        self._workers: dict[int, Sequence[str]] = {}
        self._restarts = 0
        self._life_read, self._life_write = os.pipe()

    def run(self) -> None:
        """Start what the first order says, follow the others, until the client ends."""
        os.dup2(self._log, 2)  # what goes wrong from here on
        load_worker()
        first = self._first_order()
        if first is None:
            return
        handover.give(server.broker_url(self._directory), first["config"])
        self._start_server(first["server"])
        for arguments in first["workers"]:
            self._fork(arguments)
        if not self._orders.is_over:
            self._store = standing_store()  # once the workers are on their way
        while self._obey() and self._check_children() and not self._orders.is_over:
            self._orders.wait()

    def _first_order(self) -> Mapping[str, Any] | None:
        """Return what to start; None where the client ends without it."""
        while not self._orders.is_over:
            for order in self._orders.take():
                return order
            self._orders.wait()
        return None

    def _start_server(self, argv: Sequence[str]) -> None:
        """Start the server, and wait for it: Celery would try again only after two seconds.

        Stops waiting if something else happens first, such as the client's end or the server's.
        """
        self._server = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=passed(os.environ, SERVER_ENVIRONMENT),
        )
        look_up()  # while the server starts
        while not server.is_up(self._directory):
            if self._orders.wait(SERVER_POLL_SECONDS):
                return

    def _obey(self) -> bool:
        """Follow the orders that have come; False where one cannot be followed."""
        return all(self._cancel(order["cancel"], order["reason"]) for order in self._orders.take())

    def _cancel(self, run: str, reason: str) -> bool:
        """Cancel a run over the open connection; False, which ends everything, if that fails."""
        import redis

        self._store = self._store or standing_store()
        try:
            self._store.cancel(run, reason)
            self._store.aggregate(run)  # if nothing of it runs, no task will
        except redis.RedisError as error:
            os.write(self._log, f"run {run} cannot be canceled: {error}\n".encode())
            return False
        return True

    def _fork(self, arguments: Sequence[str]) -> None:
        pid = os.fork()
        if pid == 0:
            self._become_worker(arguments)
        self._workers[pid] = arguments

    def _become_worker(self, arguments: Sequence[str]) -> NoReturn:
        from clinvk.local import forked_worker

        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(self._log, 1)
            os.close(self._life_write)
            code = forked_worker.run(arguments, self._directory, self._life_read)
        except BaseException:
            import traceback

            traceback.print_exc()
            raise
        finally:
            os._exit(code)  # nothing of the supervisor's is the worker's to end

    def _check_children(self) -> bool:
        """Replace dead workers; False when nothing can go on."""
        assert self._server is not None
        process_tree.orphans_alive(self._children())  # reaps the ended
        if self._server.poll() is not None:
            self._report("server", self._server.returncode)
            return False
        for pid in list(self._workers):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended == 0:
                continue
            arguments = self._workers.pop(pid)
            self._report("worker", os.waitstatus_to_exitcode(status))
            self._end_tasks()
            self._restarts += 1
            if self._restarts > WORKER_RESTARTS:
                return False
            self._fork(arguments)
        return True

    def _report(self, which: str, returncode: int) -> None:
        from pathlib import Path

        log = Path(self._directory, "worker.log").read_text("utf-8", "replace")
        lines = [line.strip() for line in log.split("\n") if line.strip()]
        report(which, returncode, lines[-1] if lines else "")

    def take_down(self) -> None:
        """End everything and remove the directory."""
        import shutil

        from workers.execution.sandbox import private

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
        private.remove_stale()

    def _end_tasks(self) -> None:
        """End what dead workers left."""
        process_tree.end_descendants(GRACE_SECONDS, self._children())

    def _children(self) -> set[int]:
        """Return the children that are no orphans."""
        return {*self._workers, *([self._server.pid] if self._server else [])}


def load_worker() -> None:
    """Import all that a worker needs."""
    import gc

    gc.disable()
    from clinvk.local import forked_worker  # noqa: F401
    from workers import worker_process

    worker_process.load()


def look_up() -> None:
    """Find out what each worker would, and keep all of it shared with those that are forked."""
    import gc
    import tempfile

    from workers import worker_process

    worker_process.look_up()
    # Where that is not known yet, it is found out with a file: of a worker that is killed just
    # then, the file would stay.
    tempfile.gettempdir()
    gc.freeze()
    gc.enable()


def standing_store() -> Store:
    """Return a store that is connected: the socket may be removed before it is needed."""
    import redis

    from clinvk.store.failure_detector import ANSWER_SECONDS
    from clinvk.store.store import Store

    broker_url = handover.broker_url()
    assert broker_url is not None
    store = Store.connect(broker_url, ANSWER_SECONDS)
    with contextlib.suppress(redis.RedisError):
        store.admit()  # nothing yet; it leaves the connection open
    return store


def report(which: str, returncode: int, said: str) -> None:
    """Tell the client that a process has ended, and what it said last."""
    line = json.dumps({"exited": which, "returncode": returncode, "said": said[-MOST_SAID:]})
    with contextlib.suppress(OSError):
        os.write(1, line.encode() + b"\n")


def main() -> int:
    """Supervise the directory that is the only argument."""
    seclude()
    handover.give(server.broker_url(sys.argv[1]))
    process_tree.become_subreaper()
    wake_read, wake_write = os.pipe()
    for fd in (wake_read, wake_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    supervisor = LocalSupervisor(sys.argv[1], Orders(wake_read))
    try:
        supervisor.run()
    except Exception as error:
        report("supervisor", 1, f"{type(error).__name__}: {error}")
        raise
    finally:
        supervisor.take_down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
