"""The process that has local mode's server and workers, and takes them down, whatever happens.

The client starts it, as early as it can, and holds one end of a pipe to its stdin: when the client
ends, by itself or by `kill -9`, the pipe closes. The supervisor loads all that a worker needs while
the client reads its files; then it gets its orders, starts the server, and forks the workers,
which costs a few milliseconds each. One that dies is replaced in the same way. The supervisor is
their parent and adopts every orphan below them (`workers.execution.process_tree`), so it can end
all that was started, even when a worker is dead; then it removes the directory. Where the
supervisor itself is killed, the workers see the end of a pipe that it holds, and take down what
they can reach (`clinvk.local.forked_worker`).

The run is recorded in a directory of its own (`clinvk.local.records`), which stays. The supervisor
makes it, holds its lock, and keeps its summary up to date. A run that was interrupted goes on in
the same directory, once all that is left of it has been ended (`clinvk.local.recovery`).

Started as `python -m clinvk.local.supervisor DIRECTORY`. On stdin it reads JSON objects, one a
line:

    {"server": PROGRAM, "workers": [arguments of `python -m workers`, ...], "queues": [NAME, ...],
     "config": WORKER_CONFIG, "record": DIRECTORY | null, "resumes": BOOL, "keep_days": N,
     "keep_bytes": N}
                                        what to start; the first line, and only that
    {"cancel": RUN, "reason": TEXT}     cancel a run
    {"detach": true}                    stay until the run has ended, not until the client has

and on stdout it reports, in the same form:

    {"exited": "worker" | "server" | "supervisor", "returncode": N, "said": TEXT}
                                        what has ended, and the last line of the log; the directory
                                        with the log may be gone when the client reads that
    {"unrecorded": TEXT}                the run is not recorded, for this reason
    {"taken": true}                     another process has the lock of the run
    {"ready": true}                     the server of a run that goes on answers
    {"warning": TEXT}                   something that the user should know
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

    from clinvk.local.recorder import RunRecorder
    from clinvk.local.records import Record, Records
    from clinvk.store.store import Store

# Anything more at the top would hold up what the workers need: it is imported where it is used.

GRACE_SECONDS = 5.0
WORKER_RESTARTS = 3
SERVER_POLL_SECONDS = 0.002
MOST_SAID = 500
"""How much of a last line is reported, in characters: a report is one write to a pipe."""
LOAD_SECONDS = 120.0
"""How long a server may take to read what a run has recorded."""
LOOK_SECONDS = 1.0
"""How often to write down how far the run is."""


PARTS = (
    *("clinvk.core.spec", "clinvk.backends.base", "clinvk.store.types", "clinvk.store.store"),
    *("workers.execution.preparation", "workers.execution.executor", "workers.worker_process"),
)
"""What takes long to import; in between it is looked whether there are orders."""


class Orders:
    """The client's lines on stdin, and the signals that may come instead.

    `wake_fd` becomes readable with each signal (`signal.set_wakeup_fd`).

    Attributes:
        is_over: whether the client has ended, or SIGTERM asked this process to end.
        is_detached: whether the client's end is none for this process.
    """

    def __init__(self, wake_fd: int) -> None:
        self._wake_fd = wake_fd
        self._sources = [0, wake_fd]
        self._buffer = b""
        self.is_over = False
        self.is_detached = False

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for a line, a signal or the client's end; returns whether there was any."""
        readable, _, _ = select.select(self._sources, [], [], timeout_seconds)
        if self._wake_fd in readable and signal.SIGTERM in os.read(self._wake_fd, 512):
            self.is_over = True
        if 0 in readable:
            self._read()
        return bool(readable)

    def _read(self) -> None:
        piece = os.read(0, 1 << 16)
        self._buffer += piece
        if not piece:
            self._sources.remove(0)
            self.is_over = self.is_over or not self.is_detached

    def take(self) -> Iterator[Mapping[str, Any]]:
        """Yield the orders that have come and were not taken yet."""
        while b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            yield json.loads(line)


class LocalSupervisor:
    """Keeps a server and workers up until the client ends, or without one until the run does."""

    def __init__(self, directory: str, orders: Orders) -> None:
        self._directory = directory
        self._orders = orders
        self._log = os.open(
            f"{directory}/worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode=0o600
        )
        self._lock_fd: int | None = None
        self._records: Records | None = None
        self._recorder: RunRecorder | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._store: Store | None = None
        self._workers: dict[int, Sequence[str]] = {}
        self._restarts = 0
        self._state_dir: str | None = None
        self._life_read, self._life_write = os.pipe()
        self._workers_pipe = os.pipe()

    def run(self) -> None:
        """Start what the first order says, follow the others, until the client ends."""
        os.dup2(self._log, 2)  # what goes wrong from here on
        loading = self._load()
        first = self._first_order(loading)
        if first is None:
            return
        from clinvk.core.worker_config import WorkerConfig

        handover.give(server.broker_url(self._directory), first["config"])
        self._state_dir = WorkerConfig.load(first["config"]).state_dir
        record = self._take_record(first)
        if record is None and first["resumes"]:
            return
        self._start_server(first["server"], record)
        for _ in loading:
            pass
        look_up()
        self._await_server()
        if first["resumes"] and not self._go_on(first):
            return
        for arguments in first["workers"]:
            self._fork(arguments)
        if not self._orders.is_over:
            self._store = self._store or standing_store()  # once the workers are on their way
        while self._obey() and self._check_children() and not self._is_over():
            self._orders.wait(LOOK_SECONDS)
            self._look()

    def _is_over(self) -> bool:
        has_ended = self._recorder is not None and self._recorder.has_ended
        return self._orders.is_over or (self._orders.is_detached and has_ended)

    def _take_record(self, first: Mapping[str, Any]) -> str | None:
        """Make the directory of the run, or take over that of one that goes on; None if neither."""
        from pathlib import Path

        from clinvk.local.recorder import RunRecorder
        from clinvk.local.records import Record, Records

        if first["record"] is None:
            return None
        record = Record(Path(first["record"]))
        self._records = Records(record.path.parent, first["keep_days"], first["keep_bytes"])
        try:
            self._lock_fd = _take_over(record) if first["resumes"] else record.create()
        except OSError as error:
            report(unrecorded=str(error))
            return None
        if self._lock_fd is None:
            report(taken=True)
            return None
        self._recorder = RunRecorder(record, self._directory, first["queues"])
        return str(record.path)

    def _go_on(self, first: Mapping[str, Any]) -> bool:
        """Get a run ready that was interrupted; False where its server cannot read its record."""
        from pathlib import Path

        from clinvk.core.worker_config import WorkerConfig
        from clinvk.local import recovery
        from clinvk.store.connection import retry

        assert self._records is not None
        if not self._server_answers():
            return False
        run = Path(first["record"]).name
        self._store = standing_store()
        retry(self._store.redis.ping, LOAD_SECONDS)
        limits = WorkerConfig.load(first["config"]).budgets
        recovery.requeue(self._store, run, self._records, limits or {})
        report(ready=True)
        return True

    def _server_answers(self) -> bool:
        """Whether the server has read what there is; reports its end if it has ended."""
        assert self._server is not None
        if self._server.poll() is not None:
            self._report_end("server", self._server.returncode)
        return self._server.returncode is None and not self._orders.is_over

    def _look(self) -> None:
        import redis

        if self._recorder is not None and self._store is not None and not self._orders.is_over:
            with contextlib.suppress(redis.RedisError):  # it ends just now, or will answer again
                self._recorder.look(self._store)

    def _load(self) -> Iterator[None]:
        """Import all that a worker needs, part by part; what the client waits for comes first."""
        import gc
        from importlib import import_module

        gc.disable()
        import_module("celery.app")
        yield
        self._write_message()
        for module in PARTS:
            yield
            import_module(module)
        from workers import worker_process

        worker_process.load()

    def _first_order(self, loading: Iterator[object]) -> Mapping[str, Any] | None:
        """Return what to start, and load meanwhile; None where the client ends without it."""
        timeout_seconds: float | None = 0.0
        while not self._orders.is_over:
            for order in self._orders.take():
                return order
            if timeout_seconds is not None and next(loading, self) is self:
                timeout_seconds = None  # all is loaded
            self._orders.wait(timeout_seconds)
        return None

    def _start_server(self, program: str, record: str | None) -> None:
        """Start the server, which comes up while this process goes on loading."""
        self._server = subprocess.Popen(
            server.argv(program, self._directory, record),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=passed(os.environ, server.ENVIRONMENT),
        )

    def _await_server(self) -> None:
        """Wait for the server: Celery would try again only after two seconds.

        Stops waiting if something else happens first, such as the client's end or the server's.
        """
        while not server.is_up(self._directory):
            if self._orders.wait(SERVER_POLL_SECONDS):
                return

    def _write_message(self) -> None:
        """Make the message of tasks for the client, which does without Celery."""
        from pathlib import Path

        from clinvk.broker.message import ANY_RUN, template
        from workers.app import app

        path = Path(self._directory, server.MESSAGE_NAME)
        being_written = path.with_name(f"{server.MESSAGE_NAME}.new")
        being_written.write_text(template(app, ANY_RUN), encoding="utf-8")
        being_written.replace(path)

    def _obey(self) -> bool:
        """Follow the orders that have come; False where one cannot be followed."""
        return all(map(self._follow, self._orders.take()))

    def _follow(self, order: Mapping[str, Any]) -> bool:
        if "detach" in order:
            self._orders.is_detached = True
            return True
        return self._cancel(order["cancel"], order["reason"])

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
            if self._lock_fd is not None:
                os.close(self._lock_fd)
            code = forked_worker.run(
                arguments, self._directory, self._life_read, self._workers_pipe
            )
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
            self._report_end("server", self._server.returncode)
            return False
        for pid in list(self._workers):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended == 0:
                continue
            arguments = self._workers.pop(pid)
            self._report_end("worker", os.waitstatus_to_exitcode(status))
            self._end_tasks()
            self._restarts += 1
            if self._restarts > WORKER_RESTARTS:
                return False
            self._fork(arguments)
        return True

    def _report_end(self, which: str, returncode: int) -> None:
        from pathlib import Path

        log = Path(self._directory, "worker.log").read_text("utf-8", "replace")
        lines = [line.strip() for line in log.split("\n") if line.strip()]
        report_end(which, returncode, lines[-1] if lines else "")

    def take_down(self) -> None:
        """End everything and remove the directory."""
        import shutil

        from workers.execution import sessions
        from workers.execution.sandbox import private

        # The workers first and at once, so that they start nothing new; what they ran is ours then.
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
        while self._workers:
            os.waitpid(self._workers.popitem()[0], 0)
        self._end_tasks()
        has_snapshot = self._end_record()
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        if self._recorder is not None:
            self._recorder.close(has_snapshot=has_snapshot)
        shutil.rmtree(self._directory, ignore_errors=True)
        private.remove_stale()
        if self._state_dir is not None:
            kept = sessions.directory_of(self._state_dir)
            if self._recorder is not None and self._recorder.has_ended:
                sessions.remove_run(kept, self._recorder.run_id)
            sessions.remove_stale(kept)
        if self._records is not None:
            self._records.clean()

    def _end_record(self) -> bool:
        """Write down how the run ended; returns whether its server has written a snapshot."""
        if self._recorder is None or self._server is None or self._server.poll() is not None:
            return False
        import redis

        try:
            self._store = self._store or standing_store()
            has_snapshot = self._recorder.end(self._store)
        except (redis.RedisError, OSError) as error:
            os.write(self._log, f"the record cannot be finished: {error}\n".encode())
            return False
        if self._recorder.incomplete is not None:
            report(warning=f"not all of the run is in its record: {self._recorder.incomplete}")
        return has_snapshot

    def _end_tasks(self) -> None:
        """End what dead workers left."""
        process_tree.end_descendants(GRACE_SECONDS, self._children())

    def _children(self) -> set[int]:
        """Return the children that are no orphans."""
        return {*self._workers, *([self._server.pid] if self._server else [])}


def _take_over(record: Record) -> int | None:
    """Lock the record of an interrupted run, and end what is left of the run.

    Raises:
        OSError: it cannot be locked, or has no summary.
    """
    from clinvk.local import recovery

    lock_fd = record.lock()
    if lock_fd is not None:
        recovery.end_what_is_left(record.run_id, record.summary().socket_directory)
    return lock_fd


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


def report_end(which: str, returncode: int, said: str) -> None:
    """Tell the client that a process has ended, and what it said last."""
    report(exited=which, returncode=returncode, said=said[-MOST_SAID:])


def report(**fact: object) -> None:
    """Tell the client something, if it is there."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(fact).encode() + b"\n")


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
        report_end("supervisor", 1, f"{type(error).__name__}: {error}")
        raise
    finally:
        supervisor.take_down()
    return 0


def run_and_exit() -> NoReturn:
    """Supervise, and end at once: the client waits, and there is nothing to take apart by then."""
    code = 1
    try:
        code = main()
    except BaseException:  # noqa: BLE001  (it is printed where it would be)
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    run_and_exit()
