"""The worktrees of a worker: which one an execution works in, how many there may be, what is left.

Several workers may share the directory. A worktree is locked by the worker that uses it, so what a
worker that was killed leaves is found by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from clinvk.core.changes import Changes
from clinvk.core.spec import TaskSpec
from clinvk.core.user_paths import expanded_default, make_directory, matching
from clinvk.core.worker_config import WorkerConfig
from clinvk.git.repository import Repository
from clinvk.git.runner import FOR_EVER, GitError, OverdueError, StoppedError, TooLargeError, Until
from clinvk.store.types import Lease
from workers.execution.directory import Directory
from workers.execution.disk import size_bytes
from workers.execution.sandbox.git_directory import linked_worktree
from workers.execution.worktrees import worktree
from workers.execution.worktrees.place import About, Place, read_about
from workers.execution.worktrees.repositories import (
    FOLDER,
    AcceptRepository,
    ReadShipments,
    Repositories,
)
from workers.execution.worktrees.sources import CheckoutSource, Source
from workers.execution.worktrees.worktree import Worktree
from workers.observers import TaskEnded, TaskHeld, WorkerEvent

DAY_SECONDS = 86_400.0
Accept = Callable[[str], object]
"""Raises where a task may not work in this directory."""

logger = logging.getLogger(__name__)


class WorktreeError(Exception):
    """A task that cannot have a worktree, or whose changes cannot be recorded; it says why.

    Attributes:
        is_too_large: whether that is because there are too many changes.
    """

    def __init__(self, message: str, *, is_too_large: bool = False) -> None:
        super().__init__(message)
        self.is_too_large = is_too_large


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many worktrees there may be, of which size in all, and how long one is kept."""

    count: int
    size_bytes: int
    reserve_bytes: int
    keep_days: float


class Worktrees:
    """The worktrees of a worker; as an observer it removes those that are not needed any more."""

    def __init__(self, config: WorkerConfig) -> None:
        self._directory = expanded_default(config.worktrees_dir)
        self._bounds = Bounds(
            count=config.worktrees_count,
            size_bytes=config.worktrees_bytes,
            reserve_bytes=config.spill_reserve_bytes,
            keep_days=config.worktrees_keep_days,
        )
        self._most_bytes = config.changes_bytes
        self._repositories = Repositories(self._directory)
        self._open: dict[Lease, Worktree] = {}
        self._lock = threading.Lock()

    def shipped_by(self, store: ReadShipments) -> None:
        """Read there what clients ship."""
        self._repositories.store = store

    def enter(
        self,
        spec: TaskSpec,
        directory: Directory | None,
        lease: Lease,
        accept: Accept,
        *,
        resumes: bool,
        accept_repository: AcceptRepository = str,
        until: Until = FOR_EVER,
    ) -> Worktree:
        """Give an execution of a task the worktree that it works in: here alone that is decided.

        `directory` is the working directory of a task whose repository is on this machine.

        With `resumes` it goes on with the session of its CLI, and finds the worktree of that
        session as it was. Any other execution begins in a fresh one, and what an earlier one of the
        same task left is removed. `until` is when what has to be fetched must be here.

        Raises:
            StoppedError, OverdueError: it could not be fetched until then.
            WorktreeError: it cannot have one.
        """
        try:
            found = self._left_by(lease) if resumes else None
            if resumes and found is None:
                raise WorktreeError("the worktree of its session is gone")
            if found is None:
                self._remove_left(lease)
                made_of = self._source(spec, directory, lease, accept, accept_repository, until)
                with made_of as source:
                    found = self._make(source, lease)
        except (StoppedError, OverdueError):
            raise
        except (GitError, OSError) as error:
            raise WorktreeError(f"no worktree can be made: {error}") from error
        with self._lock:
            self._open[lease] = found
        return found

    def changes(self, entered: Worktree) -> Changes:
        """Return what a task has changed in its worktree.

        Raises:
            WorktreeError: it cannot be recorded: the worktree is kept.
        """
        try:
            found = entered.changes(self._most_bytes)
        except (GitError, OSError) as error:
            self._keep(entered)
            what = f"its changes cannot be recorded ({error}): they are in {entered.about.top}"
            is_too_large = isinstance(error, TooLargeError)
            raise WorktreeError(what, is_too_large=is_too_large) from error
        if found.kept is not None:
            self._keep(entered)
        return found

    def saw(self, event: WorkerEvent) -> None:
        """Remove a worktree once the result with its changes is recorded, and not before."""
        match event:
            case TaskEnded(lease):
                self._end(lease, recorded=True)
            case TaskHeld(lease) if event.resumes:
                self._wait(lease)
            case TaskHeld(lease):
                self._end(lease, recorded=True)  # it begins anew

    def leave(self, lease: Lease) -> None:
        """Give up the worktree of an execution that has neither a result nor a next one here."""
        self._end(lease, recorded=False)

    def _end(self, lease: Lease, *, recorded: bool) -> None:
        with self._lock:
            ended = self._open.pop(lease, None)
        if ended is None:
            return
        if ended.about.state == "kept":
            ended.place.close()
            return
        if not recorded:
            logger.warning(
                "%s: it was stopped here, and what it did in its worktree is dropped", lease
            )
        with contextlib.suppress(OSError):
            ended.place.write(replace(ended.about, state="recorded"))
        ended.place.remove()

    def _wait(self, lease: Lease) -> None:
        with self._lock:
            waiting = self._open.pop(lease, None)
        if waiting is not None:
            waiting.place.write(replace(waiting.about, state="waiting"))
            waiting.place.close()

    def _keep(self, entered: Worktree) -> None:
        entered.about = replace(
            entered.about, state="kept", size_bytes=size_bytes(entered.about.top)
        )
        with contextlib.suppress(OSError):
            entered.place.write(entered.about)

    # Making one.

    @contextlib.contextmanager
    def _source(
        self,
        spec: TaskSpec,
        directory: Directory | None,
        lease: Lease,
        accept: Accept,
        accept_repository: AcceptRepository,
        until: Until,
    ) -> Iterator[Source]:
        """Give what the worktree of a task is made of; it stays as it is meanwhile."""
        wants_changes = spec.ref is None if spec.include_changes is None else spec.include_changes
        if directory is None:
            brought = self._repositories.source(spec, lease.run, accept_repository, until)
            with brought as source:
                yield source
        else:
            path = directory.real_path
            repository = _repository(path, accept)
            ref = spec.ref or "HEAD"
            yield CheckoutSource(
                repository=repository, directory=path, ref=ref, with_changes=wants_changes
            )

    def _remove_left(self, lease: Lease) -> None:
        if (old := self._left_by(lease)) is not None:
            old.place.remove()

    def _make(self, source: Source, lease: Lease) -> Worktree:
        place, about = self._reserve(source, lease)
        try:
            return worktree.make(place, source, about)
        except BaseException:
            place.remove()
            raise

    def _reserve(self, source: Source, lease: Lease) -> tuple[Place, About]:
        """Make the directory of a worktree, if there is room for one more."""
        make_directory(self._directory, 0o700)
        with self._counting():
            self._check_room()
            name = f"{lease.run}-{lease.index + 1}-{lease.dispatch}"
            place = Place.make(self._directory / name)
        top = str(place.path / "work" / source.name)
        repository = source.repository.top
        about = About(run=lease.run, index=lease.index, repository=repository, top=top)
        place.write(about)
        return place, about

    def _check_room(self) -> None:
        bounds = self._bounds
        found = [read_about(path) for path in self._places()]
        if len(found) >= bounds.count:
            raise WorktreeError(
                f"there are {len(found)} worktrees in {self._directory}, and worktrees.max_count "
                f"is {bounds.count}: remove those that are kept and not needed"
            )
        taken = sum(about.size_bytes for about in found if about is not None)
        if taken >= bounds.size_bytes:
            raise WorktreeError(
                f"the worktrees in {self._directory} take {taken} bytes, and worktrees.max_bytes "
                f"is {bounds.size_bytes}: remove those that are kept and not needed"
            )
        disk = os.statvfs(self._directory)
        if disk.f_bavail * disk.f_frsize < bounds.reserve_bytes:
            raise WorktreeError(f"the disk of {self._directory} is nearly full")

    def _left_by(self, lease: Lease) -> Worktree | None:
        """Open the worktree in which a task waits to go on with its session."""
        for path in self._places():
            about = read_about(path)
            if about is None or about.state != "waiting":
                continue
            if (about.run, about.index) == (lease.run, lease.index) and (place := Place.open(path)):
                about = replace(about, state="used")
                place.write(about)
                return Worktree(place, about, is_fresh=False)
        return None

    def _places(self) -> list[Path]:
        with contextlib.suppress(OSError):
            found = self._directory.iterdir()
            return sorted(path for path in found if path.is_dir() and path.name != FOLDER)
        return []

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        """Keep other workers from counting at the same time."""
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    # What others left.

    def clean_up_soon(self) -> None:
        """Do `clean_up` beside what else this worker does."""
        if self._directory.exists():
            threading.Thread(target=self.clean_up, name="clinvk-worktrees", daemon=True).start()

    def clean_up(self) -> None:
        """Remove what workers left that were killed; what no result has is kept, and told.

        Takes long where there is much; nothing waits for it.
        """
        for path in self._places():
            place = Place.open(path)
            if place is None:
                continue
            try:
                removed = self._is_over(place)
            except (GitError, OSError) as error:
                logger.warning("the worktree %s cannot be looked at: %s", path, error)
                removed = False
            if removed:
                place.remove()
            else:
                place.close()
        self._repositories.clean_up(self._sources_in_use, self._bounds.keep_days)

    def _sources_in_use(self) -> set[str]:
        """Return the repositories that worktrees are made of."""
        found = map(read_about, self._places())
        return {about.repository for about in found if about is not None}

    def _is_over(self, place: Place) -> bool:
        """Whether a worktree that no worker uses can be removed."""
        about = place.read()
        if about is None or about.state == "recorded" or not about.start:
            return True
        if _is_in_use(about.top):
            return False
        if time.time() - place.path.stat().st_mtime > self._bounds.keep_days * DAY_SECONDS:
            logger.warning("the worktree %s is removed: nobody took what is in it", about.top)
            return True
        if about.state in {"kept", "waiting"}:
            return False
        if Worktree(place, about).tree() == about.start:
            return True
        place.write(replace(about, state="kept", size_bytes=size_bytes(about.top)))
        logger.warning(
            "a worker was killed while a task worked in %s: what it changed there is in no result, "
            "and is kept for %g days",
            about.top,
            self._bounds.keep_days,
        )
        return False


def is_brought(spec: TaskSpec) -> bool:
    """Whether a task's repository comes from elsewhere: its `workdir` is none of this machine."""
    return spec.repo is not None or spec.shipped is not None


def wants_worktree(spec: TaskSpec) -> bool:
    """Whether a task is to have a worktree of its own."""
    return spec.workspace == "worktree"


def _repository(directory: str, accept: Accept) -> Repository:
    """Find the repository of a working directory, all of which the task may see then.

    Raises:
        WorktreeError: it is in none, or in one that pretends to be another's.
    """
    found = Repository.around(directory)
    if found is None:
        raise WorktreeError(f"workdir {directory} is in no git repository")
    accept(found.top)
    if not _is_its_own(found):
        raise WorktreeError(f"{found.top}/.git names a git directory that is not its own")
    for objects in found.object_directories()[1:]:
        accept(objects)
    return found


def _is_its_own(repository: Repository) -> bool:
    """Whether a git directory knows the checkout that names it: any file can name any directory."""
    pointer = Path(repository.top, ".git")
    if pointer.is_dir() and not pointer.is_symlink():
        return os.path.realpath(repository.git_directory) == os.path.realpath(pointer)
    try:
        if linked_worktree(os.path.realpath(repository.top), pointer.read_text()) is not None:
            return True
    except (OSError, ValueError):
        return False
    return os.path.realpath(repository.worktree_setting() or "/") == os.path.realpath(
        repository.top
    )


def _is_in_use(top: str) -> bool:
    """Whether a process works in a directory, as far as this user can see."""
    for link in matching("/proc", "[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if os.readlink(link).startswith(top):  # noqa: PTH115
                return True
    return False
