"""Merges of trees, without any files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from clinvk.git.private_repository import PrivateRepository

_WHO = "clinvk <clinvk@localhost> 0 +0000"


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge: its tree, and the files in which the two sides do not go together."""

    tree: str
    conflicts: list[str] = field(default_factory=list)


def merge(private: PrivateRepository, base: str, ours: str, theirs: str) -> Merged:
    """Merge two trees that both come from `base`.

    Raises:
        GitError: one of them cannot be read.
    """
    root = commit(private, base)
    sides = [commit(private, tree, root) for tree in (ours, theirs)]
    wanted = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages")
    status, answer = private.status(*wanted, *sides, allowed=(0, 1))
    tree, *paths = answer.rstrip(b"\0").split(b"\0")
    conflicts = list(dict.fromkeys(os.fsdecode(path) for path in paths)) if status else []
    return Merged(tree.decode().strip(), conflicts)


def commit(
    private: PrivateRepository, tree: str, *parents: str, who: str = _WHO, message: str = "clinvk"
) -> str:
    """Make a commit; without `who`, the same trees always give the same one.

    Raises:
        GitError: it cannot be written.
    """
    lines = [f"tree {tree}", *(f"parent {each}" for each in parents)]
    lines += [f"author {who}", f"committer {who}", "", message, ""]
    body = "\n".join(lines).encode("utf-8", "surrogateescape")
    return private.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=body).decode().strip()
