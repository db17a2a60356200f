"""Patches between two trees: made so that they are exact, counted, and applied to another tree."""

from __future__ import annotations

import os
from dataclasses import dataclass

from clinvk.git.private_repository import PrivateRepository
from clinvk.git.runner import git

DIFF = (
    *("diff-tree", "-r", "--no-ext-diff", "--no-textconv", "--no-color"),
    *("--submodule=short", "--ignore-submodules=none", "--no-relative"),
)
RENAMES, NO_RENAMES = "--find-renames", "--no-renames"
LINK = b"120000"
PREFIXES = ("--src-prefix=a/", "--dst-prefix=b/")


@dataclass(frozen=True, slots=True)
class FileChange:
    """How a file differs; the counts of lines are None for what is no text."""

    path: str
    insertions: int | None
    deletions: int | None
    was: str | None = None


def make(
    private: PrivateRepository, before: str, after: str, most_bytes: int | None = None
) -> bytes:
    """Return the patch from one tree to another, in git's form for binary files.

    Raises:
        GitError: a tree cannot be read.
        TooLargeError: it has more than `most_bytes`.
    """
    wanted = (*DIFF, _renames(private, before, after), *PREFIXES, "-p", "--binary", "--full-index")
    return private.git(*wanted, before, after, most_bytes=most_bytes)


def _renames(private: PrivateRepository, before: str, after: str) -> str:
    """Return how renamed files are shown. `git apply` refuses some patches that rename links."""
    has_links = LINK in private.git(*DIFF, NO_RENAMES, "--raw", before, after)
    return NO_RENAMES if has_links else RENAMES


def changes(private: PrivateRepository, before: str, after: str) -> list[FileChange]:
    """Return the files that differ between two trees, ordered by name.

    Raises:
        GitError: a tree cannot be read.
    """
    return _counts(private.git(*DIFF, RENAMES, "--numstat", "-z", before, after))


def counted(patch: bytes) -> list[FileChange]:
    """Return the files that a patch changes.

    Raises:
        GitError: it is no patch.
    """
    if not patch:
        return []
    return _counts(git("apply", "--numstat", "-z", "-", directory="/", stdin=patch))


def _counts(text: bytes) -> list[FileChange]:
    fields = iter(text.split(b"\0"))
    found = []
    for entry in fields:
        if not entry:
            continue
        added, removed, path = entry.split(b"\t", 2)
        was = None
        if not path:  # a renamed file: both names follow
            was, path = os.fsdecode(next(fields)), next(fields)
        found.append(FileChange(os.fsdecode(path), _count(added), _count(removed), was))
    return found


def _count(text: bytes) -> int | None:
    return None if text == b"-" else int(text)


def apply(private: PrivateRepository, tree: str, patch: bytes, index: str) -> str:
    """Return the tree that a patch makes of another one, if all of it fits; `index` is scratch.

    Raises:
        GitError: it does not fit.
    """
    private.git("read-tree", tree, index=index)
    if patch:
        private.git("apply", "--cached", "--whitespace=nowarn", "-", index=index, stdin=patch)
    return private.write_tree(index)


def status(private: PrivateRepository, before: str, after: str) -> list[tuple[str, str]]:
    """Return the files that differ between two trees, each with A (added), D, M or T (its type).

    Raises:
        GitError: a tree cannot be read.
    """
    wanted = (*DIFF, NO_RENAMES, "--name-status", "-z")
    fields = private.git(*wanted, before, after).split(b"\0")
    pairs = zip(fields[::2], fields[1::2], strict=False)
    return [(kind.decode(), os.fsdecode(path)) for kind, path in pairs]
