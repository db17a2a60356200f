"""Merges of trees, without any files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from clinvk.git.private_repository import PrivateRepository

AT_ONCE = 2000
"""How many merges one process tries."""
_WHO = "clinvk <clinvk@localhost> 0 +0000"


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge: its tree, and the files in which the two sides do not go together."""

    tree: str
    conflicts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge that is to be tried, of two trees that both come from `base`."""

    base: str
    ours: str
    theirs: str

    @property
    def trivial(self) -> Merged | None:
        """What comes of it where one side has not changed anything, or both the same."""
        if self.ours in {self.base, self.theirs}:
            return Merged(self.theirs)
        return Merged(self.ours) if self.theirs == self.base else None


def merge(private: PrivateRepository, base: str, ours: str, theirs: str) -> Merged:
    """Merge two trees that both come from `base`.

    Raises:
        GitError: one of them cannot be read.
    """
    return merge_all(Commits(private), [Merge(base, ours, theirs)])[0]


def merge_all(commits: Commits, wanted: Sequence[Merge]) -> list[Merged]:
    """Try merges, many in one process; equal ones are tried once.

    Raises:
        GitError: a tree cannot be read.
    """
    done = {each: each.trivial for each in wanted}
    left = [each for each, merged in done.items() if merged is None]
    for start in range(0, len(left), AT_ONCE):
        some = left[start : start + AT_ONCE]
        asked = "".join(f"{' '.join(commits.sides(each))}\n" for each in some)
        options = ("--write-tree", "--stdin", "--name-only", "--no-messages")
        answer = commits.private.git("merge-tree", *options, stdin=asked.encode())
        done.update(zip(some, _answers(answer), strict=True))
    return [merged for each in wanted if (merged := done[each]) is not None]


class Commits:
    """Commits of trees that are to be merged, each made once: git before 2.45 merges no trees.

    Attributes:
        private: where they are.
    """

    def __init__(self, private: PrivateRepository) -> None:
        self.private = private
        self._made: dict[tuple[str, ...], str] = {}

    def sides(self, wanted: Merge) -> tuple[str, str]:
        """Return a commit of either side, whose common parent is one of their base."""
        root = self._of(wanted.base)
        return self._of(wanted.ours, root), self._of(wanted.theirs, root)

    def _of(self, tree: str, *parents: str) -> str:
        key = (tree, *parents)
        if key not in self._made:
            self._made[key] = commit(self.private, tree, *parents)
        return self._made[key]


def _answers(text: bytes) -> Iterator[Merged]:
    """Read for each merge whether it is clean (1), its tree, and the files that are not."""
    fields = iter(text.split(b"\0"))
    for is_clean in fields:
        if not is_clean:
            return
        tree = next(fields).decode()
        paths = [os.fsdecode(path) for path in iter(partial(next, fields), b"")]
        yield Merged(tree, [] if is_clean == b"1" else list(dict.fromkeys(paths)))


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
