"""The records of local runs: a directory for each, which stays when the run's processes are gone.

    <runs.dir>/<run>/summary.json    what `clinvk runs` shows, and where the run's server listens
                     lock            locked by the processes of the run while one of them lives
                     appendonlydir/  what the run's server has written, and reads when it starts

The server writes each change to its append-only file before it answers. So whatever is killed, what
was acknowledged is there; only a machine that loses its power can lose what the server wrote in its
last second or two: `RunRecorder` flushes it. Nothing here waits for a disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from clinvk.core.errors import UsageError, WireError
from clinvk.core.spec import RunSummary
from clinvk.core.user_paths import is_private_directory, make_directory, matching
from clinvk.local import server

FORMAT = 1
"""The version of what is in a record's directory. One of a newer version is left alone."""
REUSE_DIRECTORY = ".reuse"
"""Beside the records: results that later runs may take (`workers/execution/reuse`)."""
INTERRUPTED = "interrupted"
"""The state of a run that has not ended, and of which no process is left."""
SUMMARY, LOCK = "summary.json", "lock"
LOCK_SECONDS = 2.0
"""How long to wait for a lock that somebody may hold only to look."""
POLL_SECONDS = 0.02
CLEAN_SECONDS = 3600.0
"""How often to look for records that are too old or too much."""
CLEAN_LIMIT = 200
"""How many of them to remove at a time."""
KEY_BYTES = 512
SECONDS_PER_DAY = 86_400.0
_REMOVED, _CLEANED, _KEYS = ".removed-", ".cleaned", ".keys"
_RUN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
_SNAPSHOT = "dump.rdb"
_AOF_DIRECTORY, _AOF = "appendonlydir", "appendonly.aof"
_MANIFEST_LINE = re.compile(r"file (\S+) seq (\d+) type ([bhi])")


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of a local run without its server.

    `socket_directory` is where the server listens while the run goes on, `queues` are those that
    its tasks need. `incomplete` says why not all of the run is in its record, if so. `ledger` is
    what it used, as its server has it (clinvk/store/lua/lib/ledger.lua).
    """

    run: RunSummary
    socket_directory: str
    queues: Sequence[str] = ()
    incomplete: str | None = None
    ledger: Mapping[str, str] = field(default_factory=dict)

    def dump(self) -> str:
        """Write what `load` reads."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, text: str, run: str) -> Summary:
        """Read the summary of this run.

        Raises:
            WireError: it is of a newer version, or damaged.
        """
        try:
            body = json.loads(text)
            if body.pop("format") > FORMAT:
                raise WireError(f"run {run} was recorded by a newer clinvk: use that version")
            found = cls(**{**body, "run": RunSummary(**body["run"])})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise WireError(f"the summary of run {run} cannot be read: {error}") from error
        if found.run.run_id != run:
            raise WireError(f"the summary of run {run} is that of another run")
        return found


class Record:
    """The directory of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name

    def create(self) -> int:
        """Make the directory; returns the descriptor that holds its lock.

        Raises:
            OSError: it cannot be made or locked here.
        """
        make_directory(self.path.parent, 0o700)
        check_is_own(self.path.parent)
        self.path.mkdir(mode=0o700)
        try:
            lock_fd = self.lock()
            assert lock_fd is not None, "nobody knows of it yet"
            self._write_aof_files(1, "")
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise
        return lock_fd

    def lock(self, wait_seconds: float = LOCK_SECONDS) -> int | None:
        """Lock the run; returns a descriptor that holds the lock, None where a process has it.

        Whatever inherits the descriptor holds the lock too.

        Raises:
            OSError: this file system has no locks, or the run has been removed.
        """
        lock_fd = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_up_at = time.monotonic() + wait_seconds
        while not _try_lock(lock_fd, fcntl.LOCK_EX):
            if time.monotonic() > give_up_at:
                os.close(lock_fd)
                return None
            time.sleep(POLL_SECONDS)
        if not (self.path / LOCK).exists():
            os.close(lock_fd)
            raise FileNotFoundError(2, "it was removed", str(self.path))
        return lock_fd

    def is_alive(self) -> bool:
        """Whether a process of the run lives."""
        try:
            lock_fd = os.open(self.path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return not _try_lock(lock_fd, fcntl.LOCK_SH)
        finally:
            os.close(lock_fd)

    def summary(self) -> Summary:
        """Read what is known of the run; its state is `interrupted` where nothing of it lives.

        Raises:
            OSError: there is none.
            WireError: it is of a newer version, or damaged.
        """
        found = self._read()
        if found.run.ended_ms is not None or self.is_alive():
            return found
        found = self._read()  # it may have ended in between
        if found.run.ended_ms is not None:
            return found
        return replace(found, run=interrupted(found.run))

    def has_summary(self) -> bool:
        """Whether a run has been submitted here."""
        return (self.path / SUMMARY).exists()

    def _read(self) -> Summary:
        text = (self.path / SUMMARY).read_text("utf-8", "replace")
        return Summary.load(text, self.run_id)

    def write_summary(self, summary: Summary) -> None:
        """Replace the summary as a whole.

        Raises:
            OSError: it cannot be written.
        """
        try:
            _replace(self.path / SUMMARY, summary.dump())
        except OSError:  # a full disk has room where the file is
            overwrite(self.path / SUMMARY, summary.dump())

    def aof_files(self) -> list[Path]:
        """Return the files that the server reads, in this order; it appends to the last.

        Raises:
            OSError: there are none.
        """
        manifest = (self.path / _AOF_DIRECTORY / f"{_AOF}.manifest").read_text("utf-8", "replace")
        names = [(name, kind) for name, _, kind in _MANIFEST_LINE.findall(manifest) if kind != "h"]
        names.sort(key=lambda each: each[1] == "i")
        return [self.path / _AOF_DIRECTORY / name for name, _ in names]

    def aof_bytes(self) -> int:
        """Return how long the files are that the server reads."""
        return sum(path.stat().st_size for path in self.aof_files())

    def end_bytes(self) -> int:
        """Return how long the file is that the server appends to."""
        return self.aof_files()[-1].stat().st_size

    def keep_snapshot(self) -> None:
        """Make the snapshot that the server has written (SAVE) the whole of what it reads.

        The server must have ended.

        Raises:
            OSError: it cannot be done; the record is as it was.
        """
        old = list((self.path / _AOF_DIRECTORY).iterdir())
        number = 1 + max(
            int(found) for found in re.findall(r"aof\.(\d+)\.", " ".join(map(str, old)))
        )
        base = f"{_AOF}.{number}.base.rdb"
        (self.path / _SNAPSHOT).rename(self.path / _AOF_DIRECTORY / base)
        self._write_aof_files(number, f"file {base} seq {number} type b\n")
        for path in old:
            if not path.name.endswith(".manifest"):
                path.unlink()

    def copy_to(self, scratch: Path) -> None:
        """Let a server start in another directory, with what is here, and change nothing here.

        What is not at the end is linked, not copied.

        Raises:
            OSError: it cannot be read, or the scratch directory not written.
        """
        folder = scratch / _AOF_DIRECTORY
        folder.mkdir(mode=0o700)
        *others, last = self.aof_files()
        for path in others:
            (folder / path.name).symlink_to(path)
        shutil.copyfile(last, folder / last.name)
        shutil.copyfile(
            self.path / _AOF_DIRECTORY / f"{_AOF}.manifest", folder / f"{_AOF}.manifest"
        )

    def _write_aof_files(self, number: int, base_line: str) -> None:
        """Write the empty file to append to, and the manifest that names the files.

        The server makes the same if it finds none, and waits several times for the disk.
        """
        folder = self.path / _AOF_DIRECTORY
        folder.mkdir(mode=0o700, exist_ok=True)
        name = f"{_AOF}.{number}.incr.aof"
        os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY, 0o600))
        _replace(folder / f"{_AOF}.manifest", f"{base_line}file {name} seq {number} type i\n")

    def size(self) -> int:
        """Return how many bytes the record's files have."""
        total = 0
        for folder in (self.path, self.path / _AOF_DIRECTORY):
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                total += sum(entry.stat().st_size for entry in entries if entry.is_file())
        return total

    def age_seconds(self) -> float:
        """Return how long ago the run's summary was written, which is when it ended."""
        age = _age_seconds(self.path / SUMMARY)
        return _age_seconds(self.path) if age == math.inf else age

    def discard(self) -> None:
        """Remove the record of the run that this process has the lock of.

        Raises:
            OSError: it cannot be removed.
        """
        trash = self.path.with_name(f"{_REMOVED}{self.run_id}")
        self.path.rename(trash)
        shutil.rmtree(trash)

    def remove(self) -> bool:
        """Remove the record of a run that does not go on, and its server; whether it could.

        Raises:
            OSError: it cannot be removed.
        """
        lock_fd = self.lock(0)
        if lock_fd is None:
            return False
        try:
            with contextlib.suppress(OSError, WireError):
                server.end_and_remove(self._read().socket_directory)
            self.discard()
        finally:
            os.close(lock_fd)
        return True


def interrupted(run: RunSummary) -> RunSummary:
    """Return the counts of a run of which no process is left."""
    if run.ended_ms is not None:
        return run
    return replace(
        run, state=INTERRUPTED, running=0, in_flight=0, reserved_micro_usd=0, reserved_tokens=0
    )


def check_is_own(path: Path) -> None:
    """Make sure that nobody else can put something into this user's directory.

    Raises:
        OSError: somebody can.
    """
    about = path.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
        raise PermissionError(1, "others can write there", str(path))


def _try_lock(lock_fd: int, how: int) -> bool:
    try:
        fcntl.flock(lock_fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    with open(temporary, "w", encoding="utf-8", opener=_private) as file:
        file.write(text)
    temporary.replace(path)


def overwrite(path: Path, text: str) -> None:
    """Replace the text of a file in its place, without more of the disk.

    Raises:
        OSError: there is no such file, or it cannot be written.
    """
    path.with_name(f"{path.name}.new").unlink(missing_ok=True)
    with path.open("r+", encoding="utf-8") as file:
        file.write(text)
        file.truncate()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _ignore(_: str) -> None:
    """Pass over what cannot be read."""


@dataclass(frozen=True, slots=True)
class Records:
    """All records of this user: what is in `directory`, which is `runs.dir`.

    Those of runs that ended more than `keep_days` ago go, and the oldest while all together take
    more than `keep_bytes`.
    """

    directory: Path
    keep_days: float = 7
    keep_bytes: int = 1 << 30

    def of(self, run: str) -> Record:
        """Return the place of a run's record."""
        return Record(self.directory / run)

    def find(self, run: str) -> Record | None:
        """Return the record of a run of this id; None where there is none."""
        record = self.of(run)
        return record if _RUN.fullmatch(run) and is_private_directory(record.path) else None

    def newest(self, limit: int, on_unreadable: Callable[[str], object] = _ignore) -> list[Summary]:
        """Return the newest runs, newest first, each at the cost of a small file.

        One whose summary cannot be read is left out, and told to `on_unreadable`.
        """
        found: list[Summary] = []
        for record in self._all():
            if len(found) == limit:
                break
            try:
                found.append(record.summary())
            except WireError as error:
                on_unreadable(str(error))
            except OSError:
                continue  # it is being made, or removed
        return found

    def _all(self) -> Iterator[Record]:
        """Yield the records, newest first: their names begin with the time."""
        try:
            names = sorted(filter(_RUN.fullmatch, os.listdir(self.directory)), reverse=True)  # noqa: PTH208
        except OSError:
            return
        for name in names:
            record = self.of(name)
            if is_private_directory(record.path):
                yield record

    def clean(self) -> None:
        """Remove what is too old or too much; now and then, a bounded number at a time.

        What another process has locked stays: it goes on, or is being read or removed.
        """
        marker = self.directory / _CLEANED
        if _age_seconds(marker) < CLEAN_SECONDS:
            return
        with contextlib.suppress(OSError):
            marker.touch(mode=0o600)
            for trash in matching(self.directory, f"{_REMOVED}*"):
                shutil.rmtree(trash, ignore_errors=True)
        for record in self._surplus()[:CLEAN_LIMIT]:
            with contextlib.suppress(OSError):
                record.remove()

    def _surplus(self) -> list[Record]:
        """Return what is too old or too much, the oldest first."""
        found, total = [], 0
        for record in self._all():
            total += record.size()
            is_old = record.age_seconds() > self.keep_days * SECONDS_PER_DAY
            if is_old or total > self.keep_bytes:
                found.append(record)
        return found[::-1]

    def key(self, key: str) -> RunKey:
        """Return what a submitter's key stands for, locked until `release`.

        Raises:
            OSError: it cannot be read or written here.
        """
        make_directory(self.directory, 0o700)
        folder = self.directory / _KEYS
        make_directory(folder, 0o700)
        return RunKey(folder / hashlib.sha256(key.encode("utf-8", "replace")).hexdigest())

    def remove(self, run: str) -> None:
        """Remove the record of a run that does not go on.

        Raises:
            UsageError: there is none, it goes on, or it cannot be removed.
        """
        record = self.find(run)
        if record is None:
            raise UsageError(f"unknown run {run} (clinvk runs lists the runs)")
        try:
            is_removed = record.remove()
        except OSError as error:
            raise UsageError(f"run {run} cannot be removed: {error}") from error
        if not is_removed:
            raise UsageError(f"run {run} goes on: cancel it first (clinvk cancel {run})")


class RunKey:
    """A key under which a run is submitted once. Whoever makes this waits for its lock."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._is_locked = True

    def read(self) -> tuple[str, str] | None:
        """Return the run that the key stands for and the digest of its tasks, if there is one."""
        text = os.pread(self._fd, KEY_BYTES, 0).decode("utf-8", "replace")
        run, _, digest = text.partition(" ")
        return (run, digest) if digest else None

    def write(self, run: str, digest: str) -> None:
        """Let the key stand for a run.

        Raises:
            OSError: it cannot be written.
        """
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{run} {digest}".encode(), 0)

    def release(self) -> None:
        """Let the next submitter look. May be called again."""
        if self._is_locked:
            self._is_locked = False
            os.close(self._fd)


def _age_seconds(path: Path) -> float:
    """Return how long ago a file was changed; a file that is not there, for ever ago."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return math.inf
