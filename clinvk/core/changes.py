"""What a task changed in a worktree of its own, as its result says it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, Self

Part = Literal["patch", "pack"]
PARTS: tuple[Part, ...] = ("patch", "pack")
"""The fields that may be too large to be kept with the rest of a result."""
MOST_FILES = 1000
MOST_COMMITS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit that the task's CLI made; `message` is its first 1,000 characters."""

    sha: str
    author: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The changes of a task: from the tree `start`, which it was given, to the tree `tree`.

    `base` is the commit that its worktree was made of; `start` differs from that commit's tree
    where it was given changes that were not committed. `changed_files` are the first 1,000 of
    `files`. `head` is the last of its `commits`, which are told oldest first.

    `patch` is the patch from `start` to `tree` in git's binary form, `patch_bytes` long; bytes that
    are not UTF-8 are in it as half surrogate pairs (`surrogateescape`). `pack` is a thin pack in
    base64, of all objects that the commit `base` does not have. `blobs` says under which name a
    part is stored that is too large to be kept with the rest. `kept` is where the worktree still
    is, on the worker, since something in it could not be recorded.
    """

    base: str
    start: str
    tree: str
    changed_files: list[str] = field(default_factory=list)
    files: int = 0
    insertions: int = 0
    deletions: int = 0
    commits: list[Commit] = field(default_factory=list)
    head: str | None = None
    patch_bytes: int = 0
    patch: str | None = None
    pack: str | None = None
    blobs: dict[str, str] = field(default_factory=dict)
    kept: str | None = None

    @property
    def any(self) -> bool:
        """Whether there is anything to apply."""
        return self.start != self.tree or self.head is not None

    @property
    def chars(self) -> int:
        """How much memory its large parts take."""
        return len(self.patch or "") + len(self.pack or "")

    def with_part(self, part: Part, text: str | None, blobs: dict[str, str]) -> Self:
        """Return the same with another text for one of its large parts, and other blobs."""
        if part == "patch":
            return dataclasses.replace(self, patch=text, blobs=blobs)
        return dataclasses.replace(self, pack=text, blobs=blobs)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, without those that have nothing to say."""
        given = dataclasses.asdict(self)
        return {name: value for name, value in given.items() if value not in (None, [], {})}

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> Self:
        """Make one of what `to_dict` returned."""
        return cls(**{**body, "commits": [Commit(**each) for each in body.get("commits", ())]})
