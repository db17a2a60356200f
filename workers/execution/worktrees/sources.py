"""What worktrees are made of: a checkout on this machine, or commits that are kept here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from clinvk.git import given
from clinvk.git.private_repository import PrivateRepository
from clinvk.git.repository import Repository

AS_COMMITTED = {"core.autocrlf": "false", "core.eol": "native"}
"""What git does with line ends where nobody has set anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a task begins with: the commit, its tree, and the tree of the files that it is given."""

    base: str
    base_tree: str
    tree: str


class Source(Protocol):
    """Something that worktrees are made of."""

    @property
    def repository(self) -> Repository:
        """Where its objects are."""

    @property
    def name(self) -> str:
        """What its directory is called."""

    @property
    def subdirectory(self) -> str:
        """The directory in it that the task works in."""

    def settings(self) -> dict[str, str]:
        """Return what decides how its files look, see `Repository.settings`."""

    def start(self, private: PrivateRepository) -> Start:
        """Say what the task begins with.

        Raises:
            GitError: it cannot be read.
        """

    def include(self, private: PrivateRepository, start: Start, top: str) -> None:
        """Add ignored files to a worktree that are to come along.

        Raises:
            GitError: they cannot be read.
            OSError: they cannot be written.
        """

    def refs(self) -> bytes:
        """Return its branches and tags, see `Repository.refs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutSource:
    """A checkout on this machine: a commit, and what is not committed where that is to come along.

    `directory` is the task's, below the checkout's top.
    """

    repository: Repository
    directory: str
    ref: str = "HEAD"
    with_changes: bool = True

    @property
    def name(self) -> str:
        """What its directory is called."""
        return os.path.basename(self.repository.top) or "root"  # noqa: PTH119

    @property
    def subdirectory(self) -> str:
        """The directory in it that the task works in."""
        return os.path.relpath(self.directory, self.repository.top)

    def settings(self) -> dict[str, str]:
        """Return those of the checkout."""
        return self.repository.settings()

    def start(self, private: PrivateRepository) -> Start:
        """Say what the task begins with."""
        base = self.repository.commit(self.ref)
        tree, base_tree = given.trees(
            private, self.repository, base, self.ref, with_changes=self.with_changes
        )
        return Start(base=base, base_tree=base_tree, tree=tree)

    def include(self, private: PrivateRepository, start: Start, top: str) -> None:
        """Copy the ignored files that the user's `.worktreeinclude` names."""
        source = self.repository.top
        index = given.user_index(private, self.repository, start.base)
        for name in given.included(private, source, index):
            _copy(os.fsencode(source) + b"/" + name, os.fsencode(top) + b"/" + name)

    def refs(self) -> bytes:
        """Return its branches and tags."""
        return self.repository.refs()


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitSource:
    """A commit in a repository that this worker keeps.

    `tree` is what its task is given, where that is not the tree of the commit; `included` a tree of
    ignored files; `excludes` are patterns of more of them. `mirror` is the repository that has the
    branches. `line_ends` are the settings of the checkout that it comes from.
    """

    repository: Repository
    mirror: Repository
    name: str
    base: str
    subdirectory: str = "."
    tree: str | None = None
    included: str | None = None
    excludes: str = ""
    line_ends: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> dict[str, str]:
        """Return those of this machine, but for line ends: files are the same on every worker."""
        return {**self.repository.settings(), **AS_COMMITTED, **self.line_ends}

    def start(self, private: PrivateRepository) -> Start:
        """Say what the task begins with."""
        if self.excludes:
            Path(private.path, "info", "exclude").write_text(self.excludes, "utf-8")
        base_tree = private.tree_of(self.base)
        return Start(base=self.base, base_tree=base_tree, tree=self.tree or base_tree)

    def include(self, private: PrivateRepository, _start: Start, top: str) -> None:
        """Write the ignored files that came along, but for those that are there."""
        if self.included is None:
            return
        index = f"{private.path}/index-of-included"
        private.git("read-tree", self.included, index=index)
        there = private.git("ls-files", "-z", index=index).split(b"\0")
        wanted = [path for path in there if path and not _is_there(top, path)]
        private.git(
            *("checkout-index", "--quiet", "-z", "--stdin"),
            worktree=top,
            index=index,
            stdin=b"".join(path + b"\0" for path in wanted),
        )

    def refs(self) -> bytes:
        """Return its branches and tags."""
        return self.mirror.refs()


def _copy(source: bytes, target: bytes) -> None:
    """Copy a file, a link as a link; what is in the target already stays as it is."""
    if os.path.lexists(target) or source.endswith(b"/"):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
    shutil.copy2(source, target, follow_symlinks=False)


def _is_there(top: str, path: bytes) -> bool:
    """Whether something is where a file would be, or a link on the way to it."""
    at = os.fsencode(top)
    for part in path.split(b"/"):
        at += b"/" + part
        if os.path.islink(at):  # noqa: PTH114
            return True
    return os.path.lexists(at)
