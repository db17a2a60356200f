"""The process that sees a worker's end, ends what the worker ran, and releases its leases.

A worker that dies at once (`kill -9`, out of memory, a crash) leaves its commands running, and
Redis only knows that it is silent. Its supervisor holds the other end of a socket: when that closes
without a word, it ends what the worker left, and then releases the worker's leases, so that the
tasks run elsewhere at once. Where the supervisor dies too, the leases run out instead
(`clinvk/store/failure_detector.py`); a container or unit that is killed whole takes the commands
with it.

It is one of two processes:

* `clinvk worker` and `python -m workers` are the supervisor, and fork the worker (`supervise`). As
  the worker's parent and a subreaper, the supervisor adopts whatever the worker leaves, and so ends
  every process of it, also one that left its session and cleared its environment. It passes signals
  on, and starts anew on SIGHUP, as Celery's workers do. A worker whose supervisor is gone stops.
* `celery -A workers.app worker` has no such parent. There the worker starts the supervisor as a
  child, `python -m workers.liveness.supervisor`, which finds processes by their environment tag.

What a worker writes is one line of JSON, `{"owner": OWNER, "broker_url": URL}`, and then, where it
ends in order with nothing left to run, `DISMISSED`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import NoReturn, Self

from clinvk.privacy import seclude
from clinvk.store.failure_detector import SILENCE_MS
from workers import handover
from workers.execution import process_tree

DISMISSED = b"."
GRACE_SECONDS = 2.0
LOOKS = 3
LOOK_SECONDS = 0.05
"""A process may just be starting another: only several looks that find nothing are an end."""
TIMEOUT_SECONDS = SILENCE_MS / 1000
"""How long to try to reach Redis; after that the leases count as lost without us."""
PASSED_ON = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
WATCHED = PASSED_ON | {signal.SIGCHLD, signal.SIGHUP}
KILLED = 128
"""Added to the number of a signal, as shells do."""

_parent: socket.socket | None = None
"""In a worker that was forked from its supervisor: the socket between the two."""


class WorkerSupervisor:
    """The supervisor as its worker sees it: a process on the other end of a socket.

    `child` is None where the supervisor is the worker's parent.
    """

    def __init__(self, link: socket.socket, child: subprocess.Popen[bytes] | None) -> None:
        self._link = link
        self._child = child

    @classmethod
    def start(cls, owner: str, broker_url: str) -> Self:
        """Tell the supervisor of this process what it is for; start it where there is none."""
        if _parent is None:
            supervisor = cls(*_start_child())
        else:
            supervisor = cls(_parent, None)
            signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getppid(), signal.SIGHUP))
            threading.Thread(
                target=_stop_without, args=(_parent,), name="clinvk-supervisor", daemon=True
            ).start()
        supervisor._tell(json.dumps({"owner": owner, "broker_url": broker_url}).encode() + b"\n")
        return supervisor

    @property
    def is_parent(self) -> bool:
        """Whether the supervisor adopts what this worker leaves."""
        return self._child is None

    def dismiss(self) -> None:
        """Tell it that this worker ends in order and leaves nothing, and wait for its end."""
        self._tell(DISMISSED)
        if self._child is not None:
            self._link.close()
            self._child.wait()

    def _tell(self, words: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._link.sendall(words)


def _start_child() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.liveness.supervisor"],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            env=handover.environment(),
            start_new_session=True,
        )
    process_tree.exempt(process.pid)
    return ours, process


def _stop_without(parent: socket.socket) -> None:
    """Stop this worker once its supervisor has ended: nobody would end what the worker leaves."""
    with contextlib.suppress(ConnectionResetError):  # it had not read all that we told it
        parent.recv(1)
    os.kill(os.getpid(), signal.SIGQUIT)


# The supervisor as the worker's parent.


def supervise() -> int | None:
    """Fork, and supervise the child. Returns None in the child, which becomes the worker.

    In the parent it returns the worker's exit code, once nothing of the worker is left.
    """
    global _parent
    process_tree.become_subreaper()
    ours, theirs = socket.socketpair()
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)  # none is lost before there is a worker
    # Some systems drop what would be ignored, even while it is blocked.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    worker = os.fork()
    if worker == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ours.close()
        _parent = theirs
        os.setsid()  # what the terminal sends comes through the supervisor, and only once
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        return None
    theirs.close()
    return _Supervision(worker, ours).run()


class _Supervision:
    """The supervisor's part of `supervise`."""

    def __init__(self, worker: int, link: socket.socket) -> None:
        self._worker = worker
        self._link = link
        self._starts_anew = False

    def run(self) -> int:
        """Pass signals on until the worker has ended; returns its exit code."""
        while (status := self._ended()) is None:
            self._take(signal.sigwait(WATCHED))
        code = os.waitstatus_to_exitcode(status)
        clean_up(_read(self._link))
        if code == 0 and self._starts_anew:
            become(sys.argv[1:])
        if code < 0:
            die_of(-code)
        return code

    def _ended(self) -> int | None:
        """Return the worker's status once it has ended; reaps all that have."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
                if ended[0] == self._worker:
                    return ended[1]
        return None

    def _take(self, number: int) -> None:
        if number == signal.SIGHUP:
            # A terminal that closes ends the worker at once, as it would without a supervisor.
            is_interactive = os.isatty(0)
            self._starts_anew = not is_interactive
            number = signal.SIGQUIT if is_interactive else signal.SIGTERM
        if number in PASSED_ON:
            os.kill(self._worker, number)


def die_of(number: int) -> NoReturn:
    """End this process by the signal that ended the worker, so that whoever started it sees it."""
    if number not in {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    sys.exit(KILLED + number)  # the first process of a container gets no such signal


def become(arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the supervisor of a worker, `python -m workers ARGUMENTS`.

    It is told what `workers.handover` has here. A signal that comes before it is ready waits for
    it: the first process of a container would never see it otherwise.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    argv = [*arguments, "--handover", str(handover.to_descriptor())]
    os.execve(  # noqa: S606
        sys.executable, [sys.executable, "-m", "workers", *argv], handover.environment()
    )


# After a worker's end.


def _read(link: socket.socket) -> bytes:
    """Read all that a worker wrote, up to its end."""
    words = b""
    while piece := link.recv(1 << 16):
        words += piece
    return words


def clean_up(words: bytes) -> None:
    """End what a worker left; unless it was in order, release its leases. `words` are its own."""
    line, _, rest = words.partition(b"\n")
    told = json.loads(line) if line else {}
    in_order = rest == DISMISSED
    end_commands(None if in_order else told.get("owner"))
    if in_order:
        return
    from workers.execution.sandbox import private

    private.remove_stale()
    if told:  # or it ended before it held any
        release_leases(told["owner"], told["broker_url"])


def end_commands(owner: str | None) -> None:
    """End all processes that a worker left: what we adopted, and what carries the owner's tag."""
    clear = 0
    while clear < LOOKS:
        left = process_tree.descendants(frozenset())
        if owner is not None:
            left += process_tree.tagged(process_tree.OWNER_TAG, owner)
        elif not left:
            return
        process_tree.end(left, GRACE_SECONDS)
        process_tree.orphans_alive()  # reaps
        clear = 0 if left else clear + 1
        time.sleep(LOOK_SECONDS)


def release_leases(owner: str, broker_url: str) -> None:
    """Release a worker's leases, as soon as Redis can be told."""
    import redis

    from clinvk.store.connection import retry
    from clinvk.store.store import Store

    store = Store.connect(broker_url)
    with contextlib.suppress(redis.RedisError):  # the leases run out, then
        retry(lambda: store.release(owner), TIMEOUT_SECONDS)


def main() -> int:
    """Be the supervisor of a worker that Celery's own command started, on standard input."""
    seclude()
    for number in (*PASSED_ON, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the worker; its end is what counts
    with socket.socket(fileno=0) as link:
        clean_up(_read(link))
    return 0


if __name__ == "__main__":
    sys.exit(main())
