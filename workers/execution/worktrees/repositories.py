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

from clinvk.core.spec import TaskSpec
from clinvk.core.user_paths import make_directory
from clinvk.git.mirror import COMMIT, NOTES, Mirror
from clinvk.git.runner import GitError
from workers.execution.disk import remove
from workers.execution.worktrees.sources import CommitSource

FOLDER = ".repositories"
FRESH_SECONDS = 3600.0
"""For how long a run finds the branches as its first task here did."""
MOST_RUNS = 200
DAY_SECONDS = 86_400.0

AcceptRepository = Callable[[str], object]
"""Raises where this worker does not accept a repository."""


class Repositories:
    """The repositories below a directory; several workers may share them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / FOLDER

    @contextlib.contextmanager
    def source(self, spec: TaskSpec, run: str, accept: AcceptRepository) -> Iterator[CommitSource]:
        """Give the commit that a task names, of a repository elsewhere; it stays meanwhile.

        Raises:
            GitError: it cannot be had.
            OSError: it cannot be written.
        """
        from clinvk.core import repo_urls  # loads what most workers never need

        url = spec.repo or ""
        if wrong := repo_urls.problem(url):
            raise GitError(f"repo {wrong}")
        accept(url)
        with self._locked(_digest("mirror", url)) as (path, lock):
            mirror = Mirror(str(path))
            wanted = _Wanted(mirror, url, spec.ref or "HEAD", run)
            if (base := wanted.known()) is None:
                lock.exclude()
                Mirror.create(str(path), url)
                base = wanted.known() or wanted.fetched()
                lock.share()
            yield CommitSource(
                repository=mirror.repository,
                mirror=mirror.repository,
                name=repo_urls.name_of(url),
                base=base,
                subdirectory=inner_path(spec.workdir),
            )

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[tuple[Path, _Lock]]:
        """Keep a repository as it is for others that use it; gives its directory."""
        make_directory(self._directory, 0o700)
        path = self._directory / name
        with _Lock.of(path) as lock:
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
            lock.exclude(fcntl.LOCK_NB)
            borrowed = map(_text, path.parent.glob("*/objects/info/alternates"))
            is_used = str(path) in used() or any(f"{path}/" in text for text in borrowed)
            if not is_used and _is_old(path, keep_days):
                remove(str(path))


class _Lock:
    """The lock of a repository: shared by those that read it, or had by one that changes it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    @contextlib.contextmanager
    def of(cls, path: Path) -> Iterator[_Lock]:
        """Open the lock of a repository; it is let go of at the end."""
        lock = path.with_name(f"{path.name}.lock")
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield cls(fd)
        finally:
            os.close(fd)

    def share(self) -> None:
        """Let others read it, too."""
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def exclude(self, how: int = 0) -> None:
        """Have it alone.

        Raises:
            BlockingIOError: with LOCK_NB, somebody uses it.
        """
        fcntl.flock(self._fd, fcntl.LOCK_EX | how)


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
        mirror.fetch(self.url)
        runs = sorted({**_runs(noted), self.run: time.time()}.items(), key=lambda pair: pair[1])
        noted.write_text(json.dumps(dict(runs[-MOST_RUNS:])))
        found = mirror.commit(self.ref)
        if found is None:
            with contextlib.suppress(GitError):
                mirror.fetch_named(self.url, [self.ref])
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
