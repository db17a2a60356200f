"""What CLIs keep of their sessions, so that a task can go on in one, and how that is removed.

A task that may be tried again keeps its CLI's session (`Session.keep`). In a sandbox the session is
in a directory of the task's own, which no other task sees. Without one it is where the CLI keeps
its sessions, in its user's home: what that is, by the session's id, is noted as soon as the CLI has
named it. Both go when the task has its result, or its run is over, and what a worker that was
killed left, when the next one starts, or after some days.

    with store.execution(lease, backend, session, environment, is_sandboxed=…) as kept:
        ...  # run the command: its sandbox has `kept.directory`, `kept.named` gets the session's id
    store.is_kept(lease)  # whether another execution on this worker can go on with the session

The store is an observer: it removes what is kept of a task that has ended or was released, and
keeps that of one that was put back. It decides nothing about a task.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import glob
import hashlib
import itertools
import json
import logging
import os
import queue
import secrets
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clinvk.backends.base import SESSION_ID, Backend, Session
from clinvk.core.error_log import ErrorLog
from clinvk.core.user_paths import expanded_default, make_directory, matching
from clinvk.store.types import Lease
from workers.execution.disk import remove, size_bytes
from workers.observers import (
    RunCanceled,
    RunEnded,
    TaskEnded,
    TaskLost,
    TaskReleased,
    WorkerEvent,
    WorkerStarted,
)

SWEEP_SECONDS = 300.0
"""How often to look for what is kept for nothing: of the end of a run not every worker hears."""
KEEP_DAYS = 9
"""Of a worker that is gone: longer than any limit is waited for without another try."""
MOST_BYTES = 4 << 30
"""What all tasks that wait may keep on a worker; the oldest make room."""
COMMAND_SECONDS = 30.0
CLOSE_SECONDS = 10.0
"""How long a worker that ends waits for what is being removed."""
LEAST_ID_CHARS = 16
"""What is shorter may be in a name by chance, and files are removed by it."""
FIRST_LINE_BYTES = 1 << 16

PASSING = "local-"
LOCK = "lock"
TRACES = "traces.json"
GONE = "gone-"

logger = logging.getLogger(__name__)
_errors = ErrorLog(logger)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one execution: `directory` is for the sessions of a sandboxed CLI.

    `named` is to be called with the session's id as soon as the CLI has said it.
    """

    directory: str | None = None
    named: Callable[[str], object] = lambda _: None


NOTHING_KEPT = Kept()


@dataclass(slots=True)
class _Traces:
    """What `Backend.session_traces` says of a session, and what its command needs to know."""

    session_id: str
    files: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


class SessionStore:
    """The sessions that this worker's tasks keep, below `base`.

    `worker` names the worker, unlike any other that lives, and the same where a run is resumed.
    `is_passing`: its server ends with it, so nothing of it is ever gone on with after. `is_over`
    says whether a run needs nothing any more; it is called in a thread of the store's own.
    """

    def __init__(
        self,
        base: Path,
        worker: str,
        *,
        is_passing: bool = False,
        is_over: Callable[[str], bool] = lambda _: False,
    ) -> None:
        digest = hashlib.sha256(worker.encode()).hexdigest()[:16]
        self._base = base
        self._own = base / f"{PASSING if is_passing else ''}{digest}"
        self._is_passing = is_passing
        self._is_over = is_over
        self._has_directory = self._own.exists()  # from an earlier process of this worker
        self._lock = threading.Lock()
        self._lock_fd: int | None = None
        self._active: set[str] = set()
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    # For the tasks, from their own threads.

    @contextlib.contextmanager
    def execution(
        self,
        lease: Lease,
        backend: Backend,
        session: Session,
        environment: Mapping[str, str],
        *,
        is_sandboxed: bool,
    ) -> Iterator[Kept]:
        """Keep the session of one execution, if that is asked; `environment` is the command's.

        What an earlier execution has kept goes, unless this one goes on with it.
        """
        if not (session.keep and backend.can_resume):
            yield NOTHING_KEPT
            return
        name = _name(lease)
        with self._lock:
            self._active.add(name)
        try:
            yield self._keep(name, backend, session, environment, is_sandboxed=is_sandboxed)
        finally:
            with self._lock:
                self._active.discard(name)

    def is_kept(self, lease: Lease) -> bool:
        """Whether an execution of the task on this worker has kept its session."""
        place = self._own / _name(lease)
        return (place / TRACES).exists() or bool(matching(place, "*/*"))

    def _keep(
        self,
        name: str,
        backend: Backend,
        session: Session,
        environment: Mapping[str, str],
        *,
        is_sandboxed: bool,
    ) -> Kept:
        place = self._own / name
        try:
            self._open()
            if session.resume is None:
                self._retire(place)
            place.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            _errors.log("keeping sessions", error)
            return NOTHING_KEPT
        if is_sandboxed:
            return Kept(directory=str(place))
        return Kept(named=lambda session_id: self._note(place, backend, session_id, environment))

    def _note(
        self, place: Path, backend: Backend, session_id: str, environment: Mapping[str, str]
    ) -> None:
        """Note what a CLI without a sandbox leaves of a session."""
        if not SESSION_ID.fullmatch(session_id) or len(session_id) < LEAST_ID_CHARS:
            return
        traces = backend.session_traces(session_id, environment)
        home = environment.get("HOME", "")
        names = {"PATH", "HOME", *backend.sandbox_paths(environment).directories}
        files = [home + each[1:] if each.startswith("~/") else each for each in traces.files]
        known = {name: environment[name] for name in names if name in environment}
        noted = {
            "session_id": session_id,
            "files": files,
            "command": list(traces.command),
            "environment": known if traces.command else {},
        }
        try:
            (place / TRACES).write_text(json.dumps(noted), encoding="utf-8")
        except OSError as error:
            _errors.log("noting what a CLI keeps of its session", error)

    def _open(self) -> None:
        """Make this worker's directory, and hold a lock on it while the process lives."""
        with self._lock:
            while self._lock_fd is None or not (self._own / LOCK).exists():
                make_directory(self._own, 0o700)
                self._has_directory = True
                lock_fd = os.open(self._own / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(lock_fd, fcntl.LOCK_SH)
                if self._lock_fd is None:
                    atexit.register(self.close)
                self._lock_fd = lock_fd

    # What is over.

    def saw(self, event: WorkerEvent) -> None:
        """Remove what is kept of a task that has ended, or of a run that is over."""
        match event:
            case WorkerStarted():
                if self._base.exists():
                    self._do(self.sweep)
            case _ if not self._has_directory:  # most tasks end without a look at the disk
                pass
            case TaskEnded(lease) | TaskReleased(lease) | TaskLost(lease):
                self._remove([self._own / _name(lease)])
            case RunEnded(run) | RunCanceled(run):
                self._remove(matching(self._own, f"{glob.escape(run)}.*"))

    def sweep(self) -> None:
        """Remove what is kept for nothing: of runs that are over, and of workers that are gone."""
        remove_stale(self._base, self._own)
        waiting = [place for place in matching(self._own, "*.*") if place.name not in self._active]
        for place in waiting:
            if self._is_over(place.name.rpartition(".")[0]):
                self._retire(place)
        left = sorted((place for place in waiting if place.exists()), key=_changed_at, reverse=True)
        sizes = itertools.accumulate(size_bytes(str(place)) for place in left)
        for place, size in zip(left, sizes, strict=True):
            if size > MOST_BYTES:
                self._retire(place)
        for gone in matching(self._own, f"{GONE}*"):
            _erase(gone)

    def close(self) -> None:
        """Remove what is over before this process ends; all, if nothing goes on after it."""
        if self._is_passing:
            self._remove(matching(self._own, "*.*"))
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._work.put(None)
            thread.join(CLOSE_SECONDS)
        _remove_if_empty(self._own)

    def _remove(self, places: Iterable[Path]) -> None:
        """Remove what is kept of tasks, except of those that run."""
        for place in places:
            if place.name not in self._active and place.exists():
                self._retire(place)

    def _retire(self, place: Path) -> None:
        """Take what is kept of a task out of the way at once, and remove it in the store's thread.

        The CLI's own command for it may take a second.
        """
        gone = place.with_name(GONE + secrets.token_hex(8))
        with contextlib.suppress(FileNotFoundError):
            place.rename(gone)
            self._do(lambda: _erase(gone))

    # The thread.

    def _do(self, work: Callable[[], object]) -> None:
        self._work.put(work)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="clinvk-sessions", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                work: Callable[[], object] | None = self._work.get(timeout=SWEEP_SECONDS)
            except queue.Empty:
                work = self.sweep
            if work is None:
                return
            try:
                work()
            except Exception as error:  # noqa: BLE001  (the thread is needed for the next one)
                _errors.log("removing sessions", error)


def directory_of(state_dir: str) -> Path:
    """Return where sessions are kept on a machine, for `WorkerConfig.state_dir`."""
    return expanded_default(state_dir) / "sessions"


def remove_run(base: Path, run: str) -> None:
    """Remove what is kept of a run that is over, and of which no worker lives."""
    for place in matching(base, f"*/{glob.escape(run)}.*"):
        _erase(place)
        _remove_if_empty(place.parent)


def remove_stale(base: Path, own: Path | None = None) -> None:
    """Remove what workers left, except for `own`, that are gone and that nobody goes on with."""
    for directory in matching(base, "*"):
        if directory != own:
            with contextlib.suppress(OSError):  # its worker lives, or it is another user's
                _remove_stale(directory)


def _remove_stale(directory: Path) -> None:
    lock_fd = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for place in (*matching(directory, "*.*"), *matching(directory, f"{GONE}*")):
            if directory.name.startswith(PASSING) or _is_old(place):
                _erase(place)
        _remove_if_empty(directory)
    finally:
        os.close(lock_fd)


def _erase(place: Path) -> None:
    """Remove a session and then what is noted of it, which is kept for some days if that fails."""
    if (traces := _read_traces(place)) is not None:
        try:
            _remove_traces(traces)
        except (OSError, subprocess.SubprocessError) as error:
            _errors.log("removing what a CLI kept of its session", error)
            if not _is_old(place):
                return
    remove(str(place))


def _is_old(place: Path) -> bool:
    return _changed_at(place) < time.time() - KEEP_DAYS * 86400


def _name(lease: Lease) -> str:
    return f"{lease.run}.{lease.index}"


def _changed_at(place: Path) -> float:
    with contextlib.suppress(OSError):
        return place.stat().st_mtime
    return 0.0


def _read_traces(place: Path) -> _Traces | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return _Traces(**json.loads((place / TRACES).read_text(encoding="utf-8")))
    return None


def _remove_traces(traces: _Traces) -> None:
    """Remove what a CLI left of a session, and nothing else.

    Raises:
        OSError: a file, or the CLI, cannot be used.
        subprocess.SubprocessError: the CLI's command failed.
    """
    for pattern in traces.files:
        for path in glob.glob(pattern):  # noqa: PTH207
            name = os.path.basename(path)  # noqa: PTH119
            if traces.session_id in name or traces.session_id in _first_line(path):
                _remove_path(path)
    if traces.command:
        subprocess.run(
            traces.command,
            env=traces.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=True,
        )


def _first_line(path: str) -> str:
    with contextlib.suppress(OSError), Path(path).open("rb") as stream:
        return stream.readline(FIRST_LINE_BYTES).decode("utf-8", "replace")
    return ""


def _remove_path(path: str) -> None:
    """Remove a file, a link or a directory; one that is gone already is no error."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            remove(path)
        else:
            os.unlink(path)  # noqa: PTH108


def _remove_if_empty(directory: Path) -> None:
    """Remove a worker's directory if it has nothing but the lock."""
    with contextlib.suppress(OSError):
        if all(entry.name == LOCK for entry in directory.iterdir()):
            remove(str(directory))
