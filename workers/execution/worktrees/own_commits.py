"""The commits that a task made in its worktree, of which it may have written anything anywhere.

Its git directory is read as files, and git never runs with its settings.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from clinvk.core.changes import MOST_COMMITS, Commit
from clinvk.git.private_repository import PrivateRepository
from clinvk.git.runner import GitError

MOST_REF_BYTES = 64 << 20
LONGEST_MESSAGE = 1000
_ID = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF = re.compile(rb"ref: (refs/heads/[^\0-\x20\x7f~^:?*\[\\]+)")


@dataclass(frozen=True, slots=True)
class OwnCommits:
    """The commits from the base to the last one, `head`, oldest first.

    `left_out` says what of them could not be recorded. `objects` is where they are.
    """

    head: str | None = None
    commits: list[Commit] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    objects: str | None = None


def read(private: PrivateRepository, top: str, base: str, borrowed: bytes) -> OwnCommits:
    """Find the commits in a worktree that began at `base`.

    `borrowed` is what its list of directories with others' objects must be: a task that changes it
    could have commits of any repository on the machine recorded.
    """
    directory = f"{top}/.git"
    if not _is_plain(directory):
        return OwnCommits(left_out=["it changed its .git: its commits, if any, are not recorded"])
    heads = dict(_heads(directory))
    head = heads.pop(b"HEAD", None)
    others = sorted(name for name, sha in heads.items() if sha not in (head, base))
    if head is None or (head == base and not others):
        return OwnCommits()
    if _read(f"{directory}/objects/info/alternates") != borrowed or _has_links(directory):
        return OwnCommits(left_out=["it changed where git finds objects: no commit is recorded"])
    objects = f"{directory}/objects"
    reading = private.reading(objects)
    left_out = [
        f"its branch {os.fsdecode(name)} has commits that are not recorded"
        for name in others
        if not _is_known(reading, heads[name], head, base)
    ]
    if head == base:
        return OwnCommits(left_out=left_out)
    try:
        commits = _log(reading, base, head)
    except GitError as error:
        return OwnCommits(left_out=[*left_out, f"its commits cannot be recorded: {error}"])
    if commits is None:
        left_out.append("it left the history that it began with: its commits are not recorded")
        return OwnCommits(left_out=left_out)
    return OwnCommits(head, commits, left_out, objects)


def _is_plain(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _has_links(directory: str) -> bool:
    for folder, folders, names in os.walk(f"{directory}/objects"):
        if any(os.path.islink(os.path.join(folder, name)) for name in [*folders, *names]):  # noqa: PTH114, PTH118
            return True
    return False


def _heads(directory: str) -> Iterator[tuple[bytes, str]]:
    """Yield HEAD and the branches that the task made or moved: those that are files."""
    said = _read(f"{directory}/HEAD").strip()
    if _ID.fullmatch(said):
        yield b"HEAD", said.decode()
    elif (ref := _REF.fullmatch(said)) and b".." not in said:
        found = _read(f"{directory}/{os.fsdecode(ref[1])}").strip()
        found = found or _packed(_read(f"{directory}/packed-refs"), ref[1])
        if _ID.fullmatch(found):
            yield b"HEAD", found.decode()
    for folder, _, names in os.walk(f"{directory}/refs/heads"):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118
            content = _read(path).strip()
            if _ID.fullmatch(content):
                yield (
                    os.fsencode(os.path.relpath(path, f"{directory}/refs/heads")),
                    content.decode(),
                )


def _packed(packed: bytes, ref: bytes) -> bytes:
    match = re.search(rb"^([0-9a-f]+) " + re.escape(ref) + rb"$", packed, re.MULTILINE)
    return match[1] if match else b""


def _read(path: str) -> bytes:
    """Read a regular file; nothing where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        with open(fd, "rb", closefd=False) as file:
            return file.read(MOST_REF_BYTES)
    finally:
        os.close(fd)


def _is_known(private: PrivateRepository, commit: str, *others: str) -> bool:
    """Whether a commit is part of the history of others."""
    try:
        found = private.git("rev-list", "--max-count=1", commit, *(f"^{each}" for each in others))
    except GitError:
        return False
    return not found.strip()


def _log(private: PrivateRepository, base: str, head: str) -> list[Commit] | None:
    """Return the commits from one to another, oldest first; None if they are not of one history."""
    status, _ = private.status("merge-base", "--is-ancestor", base, head, allowed=(0, 1))
    if status != 0:
        return None
    form = "--format=%H%x00%an <%ae>%x00%B%x00"
    wanted = ("rev-list", "--no-commit-header", "--topo-order", "--reverse", form)
    text = private.git(*wanted, head, f"^{base}").decode("utf-8", "replace")
    fields = text.split("\0")
    commits = [
        Commit(sha=sha.strip(), author=author, message=message.strip()[:LONGEST_MESSAGE])
        for sha, author, message in zip(fields[::3], fields[1::3], fields[2::3], strict=False)
    ]
    return commits[-MOST_COMMITS:]
