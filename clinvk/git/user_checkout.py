"""The user's checkout, where changes of tasks are put together, and written when all of it fits."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from clinvk.git import merges, packs, patches, snapshot
from clinvk.git.merges import Merged
from clinvk.git.private_repository import PrivateRepository
from clinvk.git.repository import Repository
from clinvk.git.runner import GitError

NO_COMMIT = "0" * 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees:
    """Changes: from the tree `start` to the tree `end`."""

    start: str
    end: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a step would do to files of the checkout that are in no commit.

    `changes` are those that it changes, `deletes` those that it deletes, `covers` ignored files
    that are where it puts new ones.
    """

    changes: Sequence[str] = ()
    deletes: Sequence[str] = ()
    covers: Sequence[str] = ()


@dataclass
class UserCheckout:
    """The user's checkout, and a private repository for what is tried out.

    Attributes:
        paths: the files that differ between two trees, by these trees.
    """

    repository: Repository
    private: PrivateRepository
    scratch: str
    paths: dict[Trees, frozenset[str]] = field(default_factory=dict)

    @cached_property
    def head(self) -> str:
        """The commit that is checked out.

        Raises:
            GitError: there is none.
        """
        return self.repository.commit("HEAD")

    @cached_property
    def now(self) -> str:
        """The tree of the checkout's files as they are, with what is not committed.

        Raises:
            GitError: they cannot be read.
        """
        self.private.copy_index(self.repository, self.head, self._index)
        return snapshot.take(self.private, self.repository.top, self._index).tree

    @property
    def _index(self) -> str:
        return f"{self.scratch}/index"

    def take(self, pack: bytes, base: str, trees: Trees) -> None:
        """Take in changes that were made from the commit `base`.

        Raises:
            GitError: this repository has no such commit, or the pack is damaged.
        """
        try:
            self.private.tree_of(base)
        except GitError as error:
            what = f"the repository {self.repository.top} has no commit {base}: fetch it first"
            raise GitError(what) from error
        packs.take(self.private, pack)
        for tree in (trees.start, trees.end):
            self.private.tree_of(tree)

    def files(self, trees: Trees) -> frozenset[str]:
        """Return the files that differ between two trees, both names of a renamed one.

        Raises:
            GitError: a tree cannot be read.
        """
        if trees not in self.paths:
            found = patches.status(self.private, trees.start, trees.end)
            self.paths[trees] = frozenset(path for _, path in found)
        return self.paths[trees]

    def merged(self, onto: str, trees: Trees, *, three_way: bool = True) -> Merged:
        """Return the tree that changes make of another one, or the files where they do not fit.

        Without `three_way`, the lines around each change must be there as its patch has them.

        Raises:
            GitError: a tree cannot be read.
        """
        if three_way or self._is_untouched(onto, trees):
            return merges.merge(self.private, trees.start, onto, trees.end)
        patch = patches.make(self.private, trees.start, trees.end)
        try:
            return Merged(patches.apply(self.private, onto, patch, f"{self.scratch}/applied"))
        except GitError:
            return Merged(onto, sorted(self._touched(onto, trees)))

    def _is_untouched(self, onto: str, trees: Trees) -> bool:
        """Whether a tree has the files that are changed as they were."""
        return not self._touched(onto, trees)

    def _touched(self, onto: str, trees: Trees) -> frozenset[str]:
        other = self.files(Trees(start=trees.start, end=onto))
        return frozenset(path for path in self.files(trees) if _clashes(path, other))

    def conflicts(self, one: Trees, other: Trees) -> list[str]:
        """Return the files in which two tasks' changes do not go together.

        Raises:
            GitError: a tree cannot be read.
        """
        files = self.files(other)
        if not any(_clashes(path, files) for path in self.files(one)):
            return []
        moved = self.merged(other.start, one)
        if moved.conflicts:
            return moved.conflicts
        return merges.merge(self.private, other.start, moved.tree, other.end).conflicts

    def effect(self, before: str, after: str) -> Effect:
        """Say what going from one tree to another does to files that are in no commit.

        Raises:
            GitError: a tree cannot be read.
        """
        head = Trees(start=self.private.tree_of(self.head), end=self.now)
        uncommitted = self.files(head)
        found = patches.status(self.private, before, after)
        own = [(status, path) for status, path in found if path in uncommitted]
        return Effect(
            changes=[path for status, path in own if status not in {"A", "D"}],
            deletes=[path for status, path in own if status == "D"],
            covers=[path for status, path in found if status == "A" and self._is_covered(path)],
        )

    def _is_covered(self, path: str) -> bool:
        """Whether something ignored is where a new file would be."""
        at = os.path.join(self.repository.top, path)  # noqa: PTH118
        if not os.path.lexists(at) or (os.path.isdir(at) and not os.path.islink(at)):  # noqa: PTH112, PTH114
            return False
        return not self.private.git("ls-tree", "-z", self.now, "--", path)

    def keep(self, tree: str) -> str:
        """Keep a tree in the repository; returns the id of a commit of it, which no branch has.

        Raises:
            GitError: it cannot be written.
        """
        made = merges.commit(self.private, tree, self.head)
        pack = packs.make(self.private, [made], [self.head], 1 << 40)
        packs.take(self.private.writing(self.repository.objects), pack)
        return made

    def write(self, tree: str) -> None:
        """Make the checkout's files those of a tree, all of them or none.

        Files that have changed meanwhile are in the way, and so is what is not part of `now`.

        Raises:
            GitError: something is in the way.
        """
        top, index = self.repository.top, self._index
        self.private.git("read-tree", "-m", "-u", self.now, tree, worktree=top, index=index)

    def move_head(self, commit: str) -> None:
        """Make a commit the one that is checked out; its files are written already.

        Raises:
            GitError: the branch has moved meanwhile.
        """
        index = self.repository.index
        self.private.git("read-tree", "-i", "-m", self.head, commit, index=index)
        self.repository.update_ref("HEAD", commit, self.head)


def _clashes(path: str, others: frozenset[str]) -> bool:
    """Whether a path is one of others, or below one, or above one."""
    if path in others:
        return True
    parts = path.split("/")
    if any("/".join(parts[:count]) in others for count in range(1, len(parts))):
        return True
    return any(other.startswith(f"{path}/") for other in others)


@contextmanager
def at(directory: str, *, lasting: bool = False) -> Iterator[UserCheckout]:
    """Give the checkout that a directory is in.

    With `lasting` all objects that are made are kept in the repository; otherwise none is.

    Raises:
        GitError: it is in no repository.
    """
    repository = Repository.around(directory)
    if repository is None:
        raise GitError(f"{directory} is in no git repository: go to the one that the run was about")
    with tempfile.TemporaryDirectory(prefix="clinvk-git-") as scratch:
        private = PrivateRepository.create(f"{scratch}/git", repository)
        yield UserCheckout(
            repository, private.writing(repository.objects) if lasting else private, scratch
        )
