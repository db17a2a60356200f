"""The repositories that a worker keeps for tasks of others' checkouts.

    <worktrees.dir>/.repositories/
        NAME/       a bare repository: the mirror of an address, or what a client has sent
        NAME.lock   locked by the worker that changes it, or makes a worktree of it

What is elsewhere is fetched with this worker's own credentials, so the policy says from where.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from clinvk.core.errors import WireError
from clinvk.core.shipment import PIECE, Shipment
from clinvk.core.spec import TaskSpec
from clinvk.core.user_paths import make_directory, matching
from clinvk.git.mirror import COMMIT, NOTES, Mirror
from clinvk.git.runner import FOR_EVER, GitError, OverdueError, StoppedError, Until
from workers.execution.disk import remove
from workers.execution.worktrees.sources import CommitSource

FOLDER = ".repositories"
FRESH_SECONDS = 3600.0
"""For how long a run finds the branches as its first task here did."""
MOST_RUNS = 200
DAY_SECONDS = 86_400.0
MOST_PIECE_BYTES = 4 << 20
LOOK_SECONDS = 0.1
"""How often a lock is asked for that somebody has: nothing says when it is let go of."""

AcceptRepository = Callable[[str], object]
"""Raises where this worker does not accept a repository."""


class ReadShipments(Protocol):
    """Reads what clients have shipped."""

    def submitter_of(self, run: str) -> str:
        """Return who submitted a run, where that was a user who may only ask."""

    def piece(self, submitter: str, name: str) -> bytes | None:
        """Return a piece; None where it is not there."""


class Repositories:
    """The repositories below a directory; several workers may share them.

    Attributes:
        store: where what clients have shipped is read.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / FOLDER
        self.store: ReadShipments | None = None

    @contextlib.contextmanager
    def source(
        self, spec: TaskSpec, run: str, accept: AcceptRepository, until: Until = FOR_EVER
    ) -> Iterator[CommitSource]:
        """Give the commit that a task is to have; its repository stays meanwhile.

        That is one of a repository elsewhere which the task names, or one that was shipped. `until`
        is when it must have been fetched, and the turn of the task must have come.

        Raises:
            GitError: it cannot be had, or not in time.
            OSError: it cannot be written.
        """
        made = self._elsewhere if spec.repo is not None else self._shipped
        with made(spec, run, accept, until) as source:
            yield source

    @contextlib.contextmanager
    def _elsewhere(
        self, spec: TaskSpec, run: str, accept: AcceptRepository, until: Until
    ) -> Iterator[CommitSource]:
        url = _accepted(spec.repo or "", accept)
        with self._locked(_digest("mirror", url), until) as (path, lock):
            mirror = Mirror(str(path))
            wanted = _Wanted(mirror, url, spec.ref or "HEAD", run, until)
            if (base := wanted.known()) is None:
                lock.exclude()
                Mirror.create(str(path), url)
                base = wanted.known() or wanted.fetched()
                lock.share()
            yield CommitSource(
                repository=mirror.repository,
                mirror=mirror.repository,
                name=_name_of(url),
                base=base,
                subdirectory=inner_path(spec.workdir),
            )

    @contextlib.contextmanager
    def _shipped(
        self, spec: TaskSpec, run: str, accept: AcceptRepository, until: Until
    ) -> Iterator[CommitSource]:
        submitter = self._reader.submitter_of(run)
        shipment = self._shipment(submitter, spec.shipped or "")
        subdirectory = inner_path(os.path.relpath(spec.workdir or shipment.top, shipment.top))
        with contextlib.ExitStack() as locks:
            mirror = None
            if shipment.url is not None:
                url = _accepted(shipment.url, accept)
                mirror = self._with_commits(locks, url, shipment.needs, until)
            name = _digest("shipped", submitter, shipment.repository, shipment.url or "")
            path, lock = locks.enter_context(self._locked(name, until))
            own = Mirror(str(path))
            if not _has(own, shipment.objects):
                lock.exclude()
                borrowed = mirror.path if mirror is not None else None
                Mirror.create(str(path), shipment.url, borrowed, len(shipment.base))
                self._take(own, submitter, shipment)
                lock.share()
            os.utime(path / NOTES)
            yield CommitSource(
                repository=own.repository,
                mirror=(mirror or own).repository,
                name=os.path.basename(shipment.top) or "root",  # noqa: PTH119
                base=shipment.base,
                subdirectory=subdirectory,
                tree=shipment.tree,
                included=shipment.included,
                excludes=shipment.excludes,
                line_ends=shipment.line_ends,
            )

    @property
    def _reader(self) -> ReadShipments:
        if self.store is None:
            raise GitError("nothing can be read here of what clients ship")
        return self.store

    def _shipment(self, submitter: str, name: str) -> Shipment:
        try:
            return Shipment.from_wire(self._piece(submitter, name))
        except WireError as error:
            raise GitError(str(error)) from error

    def _piece(self, submitter: str, name: str) -> bytes:
        content = self._reader.piece(submitter, name) if PIECE.fullmatch(name) else None
        if content is None or len(content) > MOST_PIECE_BYTES:
            raise GitError(
                "what the client has sent of its checkout is not in the store any more: "
                "submit the task anew"
            )
        return content

    def _with_commits(
        self, locks: contextlib.ExitStack, url: str, commits: list[str], until: Until
    ) -> Mirror:
        """Return the mirror of an address, after commits that are missing were fetched."""
        path, lock = locks.enter_context(self._locked(_digest("mirror", url), until))
        mirror = Mirror(str(path))
        if not _has(mirror, commits):
            lock.exclude()
            digits = len(commits[0]) if commits else 40
            Mirror.create(str(path), url, digits=digits)
            if not mirror.has(*commits):
                mirror.fetch(url, until)
            if not mirror.has(*commits):
                with _unless_stopped():
                    mirror.fetch_named(url, commits, until)
            if not mirror.has(*commits):
                raise GitError(
                    f"{url} does not have the commits that the checkout is based on: "
                    "run git fetch --prune there, and submit the task anew"
                )
            lock.share()
        os.utime(path / NOTES)
        return mirror

    def _take(self, own: Mirror, submitter: str, shipment: Shipment) -> None:
        """Take in the packs that were not taken in before; it is locked meanwhile."""
        noted = Path(own.path, NOTES)
        taken = set(_text(noted).split())
        own.set_shallow(shipment.shallow)
        for pack in shipment.packs:
            name = _digest(*pack)
            if name not in taken:
                own.take(b"".join(self._piece(submitter, piece) for piece in pack))
                taken.add(name)
                noted.write_text("".join(f"{each}\n" for each in sorted(taken)))
        if not own.has(*shipment.objects):
            raise GitError("what the client has sent of its checkout is not complete")

    @contextlib.contextmanager
    def _locked(self, name: str, until: Until) -> Iterator[tuple[Path, _Lock]]:
        """Keep a repository as it is for others that use it; gives its directory."""
        make_directory(self._directory, 0o700)
        path = self._directory / name
        with _Lock.of(path, until) as lock:
            lock.share()
            yield path, lock

    def clean_up(self, used: Callable[[], Collection[str]], keep_days: float) -> None:
        """Remove what nobody has used for so long; `used` returns what worktrees are made of."""
        with contextlib.suppress(OSError):
            for path in sorted(self._directory.iterdir()):
                if path.is_dir() and _is_old(path, keep_days):
                    self._remove(path, keep_days, used)

    def _remove(self, path: Path, keep_days: float, used: Callable[[], Collection[str]]) -> None:
        with contextlib.suppress(BlockingIOError), _Lock.of(path) as lock:
            lock.exclude_now()
            borrowed = map(_text, matching(path.parent, "*/objects/info/alternates"))
            is_used = str(path) in used() or any(f"{path}/" in text for text in borrowed)
            if not is_used and _is_old(path, keep_days):
                remove(str(path))


class _Lock:
    """The lock of a repository: shared by those that read it, or had by one that changes it."""

    def __init__(self, fd: int, until: Until) -> None:
        self._fd = fd
        self._until = until

    @classmethod
    @contextlib.contextmanager
    def of(cls, path: Path, until: Until = FOR_EVER) -> Iterator[_Lock]:
        """Open the lock of a repository; it is let go of at the end."""
        lock = path.with_name(f"{path.name}.lock")
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield cls(fd, until)
        finally:
            os.close(fd)

    def share(self) -> None:
        """Let others read it, too.

        Raises:
            GitError: its turn does not come in time.
        """
        self._take(fcntl.LOCK_SH)

    def exclude(self) -> None:
        """Have it alone.

        Raises:
            GitError: its turn does not come in time.
        """
        self._take(fcntl.LOCK_EX)

    def exclude_now(self) -> None:
        """Have it alone.

        Raises:
            BlockingIOError: somebody uses it.
        """
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _take(self, how: int) -> None:
        while True:
            try:
                fcntl.flock(self._fd, how | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(self._fd, fcntl.LOCK_UN)  # two that share it would wait for each other
                self._until.wait(LOOK_SECONDS)
            else:
                return


@contextlib.contextmanager
def _unless_stopped() -> Iterator[None]:
    """Suppress that git cannot do something, unless it was stopped."""
    try:
        yield
    except (StoppedError, OverdueError):
        raise
    except GitError:
        pass


def _accepted(url: str, accept: AcceptRepository) -> str:
    """Check an address, and whether this worker accepts it."""
    from clinvk.core import repo_urls  # loads what most workers never need

    if wrong := repo_urls.problem(url):
        raise GitError(f"repo {wrong}")
    accept(url)
    return url


def _name_of(url: str) -> str:
    from clinvk.core import repo_urls

    return repo_urls.name_of(url)


def _has(mirror: Mirror, objects: list[str]) -> bool:
    """Whether a repository is there and has these objects."""
    return Path(mirror.path, NOTES).exists() and mirror.has(*objects)


def inner_path(workdir: str | None) -> str:
    """Return the directory of a task in a repository, relative to its top.

    Raises:
        GitError: it leads out of it.
    """
    inner = PurePosixPath(workdir or ".")
    if inner.is_absolute() or ".." in inner.parts or "\0" in str(inner):
        raise GitError(f"workdir {workdir} must be a directory in the repository")
    return str(inner)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A commit of a repository elsewhere that a run asks for."""

    mirror: Mirror
    url: str
    ref: str
    run: str
    until: Until

    def known(self) -> str | None:
        """Return the commit, if there is no need to look for a newer one.

        A branch is looked up once for each run, so that tasks of one run begin alike.
        """
        noted = Path(self.mirror.path, NOTES)
        is_fresh = time.time() - _runs(noted).get(self.run, 0.0) < FRESH_SECONDS
        if not noted.exists() or not (is_fresh or re.fullmatch(COMMIT, self.ref)):
            return None
        os.utime(noted)
        return self.mirror.commit(self.ref)

    def fetched(self) -> str:
        """Return the commit, after what is missing was fetched; it is locked meanwhile.

        Raises:
            GitError: it cannot be had.
        """
        mirror, noted = self.mirror, Path(self.mirror.path, NOTES)
        mirror.fetch(self.url, self.until)
        runs = sorted({**_runs(noted), self.run: time.time()}.items(), key=lambda pair: pair[1])
        noted.write_text(json.dumps(dict(runs[-MOST_RUNS:])))
        found = mirror.commit(self.ref)
        if found is None:
            with _unless_stopped():
                mirror.fetch_named(self.url, [self.ref], self.until)
                found = mirror.commit(self.ref)
        if found is None:
            raise GitError(f"{self.url} has no commit {self.ref}")
        return found


def _runs(noted: Path) -> dict[str, float]:
    """Return the runs for which its branches were fetched, and when."""
    try:
        found = json.loads(_text(noted) or "{}")
        return {str(run): float(at) for run, at in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _is_old(path: Path, keep_days: float) -> bool:
    """Whether a repository was not used for so long."""
    try:
        used_at = (path / NOTES).stat().st_mtime
    except OSError:
        used_at = path.stat().st_mtime
    return time.time() - used_at > keep_days * DAY_SECONDS


def _text(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return path.read_text(encoding="utf-8")
    return ""
