"""The state of the directory that a task would work in, as the name of a tree of git's.

For each checkout there is an index of our own, which remembers what every file was like. So where
nothing has changed, a look is one `git ls-files`. The user's index is not used: whoever can write
there could have it say that files are what they are not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clinvk.core.spec import TaskSpec
from clinvk.git import snapshot
from clinvk.git.private_repository import PrivateRepository
from clinvk.git.repository import Repository
from clinvk.git.runner import GitError
from clinvk.git.snapshot import Snapshot
from workers.execution.sandbox.private import passing_directory
from workers.execution.worktrees.worktree import Worktree
from workers.execution.worktrees.worktrees import wants_worktree


class UnknownStateError(Exception):
    """The state of a directory cannot be known; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryState:
    """What a task would find: a tree, and where in it the task works.

    For a task with a worktree `base` is the commit that it is made of.
    """

    tree: str
    path: str = "."
    base: str | None = None


class DirectoryStates:
    """Looks at directories; `ignores` are paths that do not count, absolute, without links."""

    def __init__(self, ignores: Sequence[str]) -> None:
        self._ignores = [os.path.realpath(path) for path in ignores]
        self._checkouts: dict[str, _Checkout] = {}
        self._repositories: dict[str, Repository] = {}
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._scratch: Path | None = None

    def of(self, spec: TaskSpec, directory: str) -> DirectoryState:
        """Return the state of a directory as it is now, or of the worktree that is made of it.

        Raises:
            UnknownStateError: it is in no repository, or git cannot say all of it.
        """
        try:
            repository = self._repository(directory)
            checkout = self._checkout(repository)
            path = os.path.relpath(directory, repository.top)
            if not wants_worktree(spec):
                return DirectoryState(tree=checkout.tree(), path=path)
            base = repository.commit(spec.ref or "HEAD")
            with_changes = (
                spec.ref is None if spec.include_changes is None else spec.include_changes
            )
            tree = checkout.tree() if with_changes else checkout.tree_of(base)
            return DirectoryState(tree=tree, path=path, base=base)
        except (GitError, OSError) as error:
            raise UnknownStateError(str(error)) from error

    def is_of(self, worktree: Worktree, state: DirectoryState, directory: str) -> bool:
        """Whether a worktree that was just made has the files that the state says."""
        try:
            checkout = self._checkout(self._repository(directory))
            tree = checkout.reduced(worktree.place.private, worktree.about.start)
        except (GitError, OSError):
            return False
        return tree == state.tree and worktree.about.base == state.base

    def _repository(self, directory: str) -> Repository:
        """Find the repository of a directory; cheap where it is the one that it was before."""
        known = self._repositories.get(directory)
        if known is not None and _is_still(known, directory):
            return known
        found = Repository.around(directory)
        if found is None:
            raise UnknownStateError("it is in no git repository")
        self._repositories[directory] = found
        return found

    def _checkout(self, repository: Repository) -> _Checkout:
        with self._lock:
            if self._scratch is None or not self._scratch.exists():
                self._scratch = self._stack.enter_context(passing_directory())
                self._checkouts.clear()
            found = self._checkouts.get(repository.top)
            if found is None or found.repository != repository:
                place = self._scratch / f"checkout-{len(self._checkouts)}"
                shutil.rmtree(place, ignore_errors=True)
                found = _Checkout(repository, str(place), _below(repository.top, self._ignores))
                self._checkouts[repository.top] = found
            return found


def _is_still(repository: Repository, directory: str) -> bool:
    """Whether a directory is in the same checkout as before, and in none inside of it."""
    path = directory
    while path != repository.top:
        if os.path.lexists(f"{path}/.git") or path == os.path.dirname(path):  # noqa: PTH120
            return False
        path = os.path.dirname(path)  # noqa: PTH120
    return os.path.lexists(f"{path}/.git")


def _below(top: str, ignores: Sequence[str]) -> list[bytes]:
    real = os.path.realpath(top)
    inside = (path for path in ignores if path.startswith(f"{real}/"))
    return [os.fsencode(os.path.relpath(path, real)) for path in inside]


class _Checkout:
    """One checkout, with an index of our own."""

    def __init__(self, repository: Repository, place: str, ignored: Sequence[bytes]) -> None:
        self.repository = repository
        self._place = place
        self._ignored = ignored
        self._private: PrivateRepository | None = None
        self._known: Snapshot | None = None
        self._trees: dict[str, str] = {}
        self._begun = 0
        self._lock = threading.Lock()
        self._begin_lock = threading.Lock()

    def tree(self) -> str:
        """Return the tree of its files as they are now, without those that are ignored."""
        asked = self._begun
        with self._lock:
            # A look that began after this question is an answer to it: of many tasks that ask at
            # once, few have to look.
            if self._begun == asked or self._known is None:
                self._begun += 1
                self._known = self._look()
            return self._known.tree

    def _look(self) -> Snapshot:
        private, index, top = self._own(), f"{self._place}/index", self.repository.top
        is_passed_over: Callable[[bytes], bool] | None = self._is_ignored if self._ignored else None
        taken = snapshot.take(private, top, index, known=self._known, is_passed_over=is_passed_over)
        if taken is not self._known and (name := _submodule(private, top, index)):
            raise UnknownStateError(f"the state of its submodule {name} is not known")
        return taken

    def _own(self) -> PrivateRepository:
        """Return the private repository; the first time, read what is committed into the index."""
        with self._begin_lock:
            if self._private is None:
                made = PrivateRepository.create(f"{self._place}/git", self.repository)
                index, top = f"{self._place}/index", self.repository.top
                with contextlib.suppress(GitError):  # nothing is committed yet
                    made.git("read-tree", self.repository.commit("HEAD"), index=index)
                self._remove_ignored(made, index)
                made.git(
                    *("update-index", "-q", "--refresh"), worktree=top, index=index, allowed=(0, 1)
                )
                self._private = made
            return self._private

    def tree_of(self, commit: str) -> str:
        """Return the tree of a commit, without what is ignored."""
        if commit not in self._trees:
            private = self._own()
            self._trees[commit] = self.reduced(private, private.tree_of(commit))
        return self._trees[commit]

    def reduced(self, private: PrivateRepository, tree: str) -> str:
        """Return a tree without what is ignored."""
        if not self._ignored:
            return tree
        index = f"{self._place}/index-{threading.get_ident()}"
        try:
            private.git("read-tree", tree, index=index)
            self._remove_ignored(private, index)
            return private.write_tree(index)
        finally:
            Path(index).unlink(missing_ok=True)

    def _remove_ignored(self, private: PrivateRepository, index: str) -> None:
        if not self._ignored:
            return
        named = [b":(top,literal)" + path for path in self._ignored]
        found = private.git("ls-files", "-z", "--", *named, index=index)
        if found:
            private.git(
                *("update-index", "--force-remove", "-z", "--stdin"), index=index, stdin=found
            )

    def _is_ignored(self, path: bytes) -> bool:
        return any(path == each or path.startswith(each + b"/") for each in self._ignored)


def _submodule(private: PrivateRepository, top: str, index: str) -> str | None:
    """Return a submodule that is checked out, if there is one: its files are in no tree."""
    for entry in private.git("ls-files", "-z", "--stage", index=index).split(b"\0"):
        about, _, path = entry.partition(b"\t")
        if about.startswith(snapshot.GITLINK):
            inner = os.path.join(top, os.fsdecode(path))  # noqa: PTH118
            if os.path.isdir(inner) and os.listdir(inner):  # noqa: PTH112, PTH208
                return os.fsdecode(path)
    return None
