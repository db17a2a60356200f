"""One worktree: made from a checkout, given to a task, looked at when the task has ended."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from clinvk.core.changes import MOST_FILES, Changes
from clinvk.git import merges, packs, patches, snapshot
from clinvk.git.private_repository import PrivateRepository, copy_file, write_git_directory
from clinvk.git.runner import GitError
from workers.execution.directory import Directory, open_directory
from workers.execution.disk import size_bytes
from workers.execution.worktrees import own_commits
from workers.execution.worktrees.own_commits import OwnCommits
from workers.execution.worktrees.place import About, Place
from workers.execution.worktrees.sources import Source, Start


@dataclass(slots=True)
class Worktree:
    """A checkout that one task has for itself; see the package for what is where.

    Attributes:
        is_fresh: whether it is new, so that it is to be set up.
    """

    place: Place
    about: About
    is_fresh: bool = True
    warnings: list[str] = field(default_factory=list)
    _recorded: str | None = None
    _verified: tuple[str, str] | None = None

    @property
    def readable(self) -> Sequence[str]:
        """The directories outside of it that git reads in it."""
        return self.about.objects

    def open(self) -> Directory:
        """Open the directory that the task works in.

        Raises:
            OSError: it is not there any more.
        """
        return open_directory(self.about.workdir, self.about.top, is_own=True)

    def begin(self) -> None:
        """Take its files as they are now for what the task was given: what set-up did is not its.

        Raises:
            GitError: they cannot be read.
        """
        taken = snapshot.take(self.place.private, self.about.top, self.place.index)
        self.about = replace(self.about, start=taken.tree)
        self.place.write(self.about)

    def verified(self) -> None:
        """Take what is different now from the changes recorded last for what `verify` did.

        It is left out of the changes that are recorded next.
        """
        with contextlib.suppress(GitError, OSError):
            if self._recorded is not None:
                self._verified = (self._recorded, self.tree())

    def tree(self) -> str:
        """Return the tree of its files.

        Raises:
            GitError: they cannot be read.
        """
        return snapshot.take(self.place.private, self.about.top, self.place.index).tree

    def changes(self, most_bytes: int) -> Changes:
        """Return what the task has changed; no part of it may have more than `most_bytes`.

        Raises:
            GitError: it cannot be read.
            TooLargeError: it is over the limit.
        """
        private, about = self.place.private, self.about
        taken = snapshot.take(private, about.top, self.place.index)
        tree = self._recorded = self._without_verify(taken.tree)
        borrowed = Path(private.path, "objects", "info", "alternates").read_bytes()
        own = own_commits.read(private, about.top, about.base, borrowed)
        left_out = [*taken.left_out, *own.left_out]
        self.warnings = [
            f"{name} is a git repository: its files are in the changes, its history is not"
            for name in taken.nested
        ]
        self.warnings += left_out
        found = patches.changes(private, about.start, tree)
        patch = patches.make(private, about.start, tree, most_bytes)
        return Changes(
            base=about.base,
            start=about.start,
            tree=tree,
            changed_files=_names(found)[:MOST_FILES],
            files=len(_names(found)),
            insertions=sum(each.insertions or 0 for each in found),
            deletions=sum(each.deletions or 0 for each in found),
            commits=own.commits,
            head=own.head,
            patch_bytes=len(patch),
            patch=patch.decode("utf-8", "surrogateescape") or None,
            pack=self._pack(tree, own, most_bytes) if patch or own.head else None,
            kept=about.top if left_out else None,
        )

    def _without_verify(self, tree: str) -> str:
        """Return a tree without what `verify` did, where the task did not go on with that."""
        if self._verified is None:
            return tree
        recorded, then = self._verified
        merged = merges.merge(self.place.private, then, tree, recorded)
        return tree if merged.conflicts else merged.tree

    def _pack(self, tree: str, own: OwnCommits, most_bytes: int) -> str:
        """Return all objects of the changes that the base does not have."""
        private = self.place.private
        wanted = [
            merges.commit(private, each, self.about.base) for each in (self.about.start, tree)
        ]
        if own.head and own.objects:
            private, wanted = private.reading(own.objects), [*wanted, own.head]
        pack = packs.make(private, wanted, [self.about.base], most_bytes)
        return base64.b64encode(pack).decode()


def _names(found: Sequence[patches.FileChange]) -> list[str]:
    names = (name for each in found for name in (each.was, each.path) if name is not None)
    return list(dict.fromkeys(names))


def make(place: Place, source: Source, about: About) -> Worktree:
    """Make the worktree in a place.

    Raises:
        GitError: git cannot make it.
        OSError: its files cannot be written.
    """
    repository = source.repository
    private = PrivateRepository.create(str(place.path / "git"), repository, source.settings())
    start = source.start(private)
    top = about.top
    os.makedirs(top)  # noqa: PTH103
    private.check_out(start.tree, top, place.index)
    _give_git(private, top, source, start, place.index)
    source.include(private, start, top)
    workdir = os.path.normpath(os.path.join(top, source.subdirectory))  # noqa: PTH118
    _make_directory(top, workdir)
    about = replace(
        about,
        base=start.base,
        start=start.tree,
        workdir=workdir,
        objects=repository.object_directories(),
        size_bytes=size_bytes(top),
    )
    place.write(about)
    return Worktree(place, about)


def _make_directory(top: str, workdir: str) -> None:
    """Make the directory that a task works in, if it is not there: no link may lead out of it.

    Raises:
        GitError: one does, or something else is there.
    """
    at = top
    for part in Path(os.path.relpath(workdir, top)).parts:
        at = f"{at}/{part}"
        if os.path.islink(at) or (os.path.lexists(at) and not os.path.isdir(at)):  # noqa: PTH112, PTH114
            raise GitError(f"{os.path.relpath(at, top)} is no directory there")
        os.makedirs(at, exist_ok=True)  # noqa: PTH103


def _give_git(
    private: PrivateRepository, top: str, source: Source, start: Start, index: str
) -> None:
    """Give the task a git directory, with the repository's history, branches and remotes."""
    path, repository = f"{top}/.git", source.repository
    settings = source.settings()
    settings.pop("core.excludesfile", None)
    write_git_directory(path, repository, settings, repository.remotes())
    Path(path, "HEAD").write_text(f"{start.base}\n")
    Path(path, "packed-refs").write_bytes(b"# pack-refs with: sorted \n" + source.refs())
    exclude = Path(private.path, "info", "exclude")
    if exclude.is_file():
        shutil.copyfile(exclude, f"{path}/info/exclude")
    own = f"{path}/index"
    copy_file(index, own)
    private.git("read-tree", "-m", start.base_tree, worktree=top, index=own)
