"""The user's checkout, where changes of tasks are put together, and written when all of it fits."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

from clinvk.git import merges, packs, patches, snapshot
from clinvk.git.merges import Merge, Merged
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
        folders: the directories above these files.
        there: commits and trees that are known to be there.
    """

    repository: Repository
    private: PrivateRepository
    scratch: str
    paths: dict[Trees, frozenset[str]] = field(default_factory=dict)
    folders: dict[Trees, frozenset[str]] = field(default_factory=dict)
    there: set[str] = field(default_factory=set)

    @cached_property
    def head(self) -> str:
        """The commit that is checked out.

        Raises:
            GitError: there is none.
        """
        return self.repository.commit("HEAD")

    @cached_property
    def _head_tree(self) -> str:
        return self.private.tree_of(self.head)

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
            self._check_there(base)
        except GitError as error:
            what = f"the repository {self.repository.top} has no commit {base}: fetch it first"
            raise GitError(what) from error
        packs.take(self.private, pack)
        for tree in (trees.start, trees.end):
            self._check_there(tree)

    def _check_there(self, name: str) -> None:
        """Make sure that a commit or tree is there; tasks have many of them in common."""
        if name not in self.there:
            self.private.tree_of(name)
            self.there.add(name)

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
            return self._merge_all([Merge(trees.start, onto, trees.end)])[0]
        patch = patches.make(self.private, trees.start, trees.end)
        try:
            return Merged(patches.apply(self.private, onto, patch, f"{self.scratch}/applied"))
        except GitError:
            return Merged(onto, sorted(self._touched(onto, trees)))

    def _is_untouched(self, onto: str, trees: Trees) -> bool:
        """Whether a tree has the files that are changed as they were."""
        return not self._touched(onto, trees)

    def _touched(self, onto: str, trees: Trees) -> frozenset[str]:
        other = Trees(start=trees.start, end=onto)
        files, folders = self.files(other), self._folders(other)
        return frozenset(
            path
            for path in self.files(trees)
            if path in files or path in folders or not files.isdisjoint(_above(path))
        )

    def conflicts(self, changes: Sequence[Trees]) -> dict[tuple[int, int], list[str]]:
        """Return the pairs that do not go together, by their places, and in which files.

        Raises:
            GitError: a tree cannot be read.
        """
        pairs = [
            (one, other)
            for one, other in combinations(range(len(changes)), 2)
            if self._touches(changes[one], changes[other])
        ]
        sides = [(changes[one], changes[other]) for one, other in pairs]
        moved = self._merge_all([Merge(one.start, other.start, one.end) for one, other in sides])
        joined = self._merge_all(
            [
                Merge(other.start, onto.tree, other.end)
                for (_, other), onto in zip(sides, moved, strict=True)
            ]
        )
        found = (
            (pair, before.conflicts or after.conflicts)
            for pair, before, after in zip(pairs, moved, joined, strict=True)
        )
        return {pair: files for pair, files in found if files}

    def _merge_all(self, wanted: Sequence[Merge]) -> list[Merged]:
        return merges.merge_all(self._commits, wanted)

    @cached_property
    def _commits(self) -> merges.Commits:
        return merges.Commits(self.private)

    def _touches(self, one: Trees, other: Trees) -> bool:
        """Whether a file of one is one of the other, or a directory above one of its files."""
        files, others = self.files(one), self.files(other)
        return not (
            files.isdisjoint(others)
            and files.isdisjoint(self._folders(other))
            and others.isdisjoint(self._folders(one))
        )

    def _folders(self, trees: Trees) -> frozenset[str]:
        """Return the directories above the files that differ between two trees."""
        if trees not in self.folders:
            self.folders[trees] = frozenset(
                folder for path in self.files(trees) for folder in _above(path)
            )
        return self.folders[trees]

    def effect(self, before: str, after: str) -> Effect:
        """Say what going from one tree to another does to files that are in no commit.

        Raises:
            GitError: a tree cannot be read.
        """
        uncommitted = self.files(Trees(start=self._head_tree, end=self.now))
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


def _above(path: str) -> list[str]:
    """Return the directories above a file."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


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
