"""From the files of a checkout to a tree, and nothing of the checkout is run or changed.

Not `git add`: for a repository inside of the checkout that would run `git status` in there, with
settings that anybody who wrote there has chosen; and of a new one it would take a pointer, and
lose the files.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from clinvk.git.private_repository import PrivateRepository

LISTED = ("-z", "-t", "--modified", "--deleted", "--others", "--exclude-standard")
DEEPEST_NESTING = 20
GITLINK = b"160000"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The tree of a checkout's files.

    `nested` are directories with a repository of their own, of which the files are in the tree, and
    the history is not. `left_out` says what could not be taken, a line each.
    """

    tree: str
    nested: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def take(
    private: PrivateRepository,
    worktree: str,
    index: str,
    *,
    known: Snapshot | None = None,
    is_passed_over: Callable[[bytes], bool] | None = None,
) -> Snapshot:
    """Bring an index up to the files of a checkout; returns their tree.

    The index says what the files were before, and is changed: give it a copy. `known` is what it
    describes, and returned where nothing has changed. `is_passed_over` names files that stay as the
    index has them.

    Raises:
        GitError: they cannot be read.
    """
    listed = _listed(private, worktree, index, is_passed_over)
    if known is not None and not (listed.gone or listed.there or listed.nested):
        return known
    nested, left_out = _update(private, worktree, index, 0, listed)
    left_out += _in_submodules(private, worktree, index)
    return Snapshot(
        private.write_tree(index), [os.fsdecode(path).rstrip("/") for path in nested], left_out
    )


def _update(
    private: PrivateRepository,
    worktree: str,
    index: str,
    depth: int,
    listed: _Listed | None = None,
) -> tuple[list[bytes], list[str]]:
    listed = listed or _listed(private, worktree, index)
    gone, there, nested, left_out = listed.gone, listed.there, listed.nested, listed.left_out
    if gone:
        private.git(
            *("update-index", "--force-remove", "-z", "--stdin"),
            worktree=worktree,
            index=index,
            stdin=b"\0".join(gone) + b"\0",
        )
    if there:
        private.git(
            *("update-index", "--add", "--remove", "--replace", "-z", "--stdin"),
            worktree=worktree,
            index=index,
            stdin=b"\0".join(there) + b"\0",
        )
    for path in nested:
        if depth < DEEPEST_NESTING:
            left_out += _add_nested(private, worktree, index, path, depth)
        else:
            left_out.append(f"{os.fsdecode(path)} is nested too deeply")
    return nested, left_out


@dataclass(frozen=True, slots=True)
class _Listed:
    """What is gone, what is new or changed, nested repositories, and what has no place."""

    gone: list[bytes]
    there: list[bytes]
    nested: list[bytes]
    left_out: list[str]


def _listed(
    private: PrivateRepository,
    worktree: str,
    index: str,
    is_passed_over: Callable[[bytes], bool] | None = None,
) -> _Listed:
    """Return how the files of a checkout differ from its index."""
    gone, there, nested, left_out = (
        dict[bytes, None](),
        dict[bytes, None](),
        list[bytes](),
        list[str](),
    )
    for entry in private.git("ls-files", *LISTED, worktree=worktree, index=index).split(b"\0"):
        tag, _, path = entry.partition(b" ")
        if is_passed_over is not None and is_passed_over(path):
            continue
        if tag == b"R" or (tag == b"C" and _is_behind_link(worktree, path)):
            gone[path] = None
        elif tag == b"?" and path.endswith(b"/"):
            nested.append(path)
        elif tag:
            kind = _kind(worktree, path)
            is_gone = kind == "other" or (
                kind == "directory" and not _is_link(private, index, path)
            )
            (gone if is_gone else there)[path] = None
            if kind == "other":
                left_out.append(f"{os.fsdecode(path)} is neither a file nor a link")
    return _Listed(list(gone), [path for path in there if path not in gone], nested, left_out)


def _is_behind_link(worktree: str, path: bytes) -> bool:
    """Whether a directory that a file was in is a link now, behind which there is another file."""
    parents = Path(os.fsdecode(path)).parents[:-1]
    return any(Path(worktree, parent).is_symlink() for parent in parents)


def _kind(worktree: str, path: bytes) -> Literal["file", "directory", "other"]:
    try:
        mode = os.lstat(os.path.join(os.fsencode(worktree), path)).st_mode  # noqa: PTH118
    except OSError:
        return "file"  # git says what is wrong with it
    if stat.S_ISDIR(mode):
        return "directory"
    return "file" if stat.S_ISREG(mode) or stat.S_ISLNK(mode) else "other"


def _is_link(private: PrivateRepository, index: str, path: bytes) -> bool:
    """Whether a path is a submodule's; any other one that is a directory now was a file."""
    exactly = b":(top,literal)" + path
    return private.git("ls-files", "-z", "--stage", "--", exactly, index=index).startswith(GITLINK)


def _add_nested(
    private: PrivateRepository, worktree: str, index: str, path: bytes, depth: int
) -> list[str]:
    """Add the files of a repository inside of the checkout as files like any other."""
    inner = os.path.join(worktree, os.fsdecode(path))  # noqa: PTH118
    with _temporary_index(index) as own:
        _, left_out = _update(private, inner, own, depth + 1)
        tree = private.write_tree(own)
    private.git("read-tree", b"--prefix=" + path, tree, index=index)
    return left_out


@contextlib.contextmanager
def _temporary_index(beside: str) -> Iterator[str]:
    path = f"{beside}.nested"
    while os.path.lexists(path):
        path += "-"
    try:
        yield path
    finally:
        Path(path).unlink(missing_ok=True)


def _in_submodules(private: PrivateRepository, worktree: str, index: str) -> list[str]:
    """Say which files are in the directory of a submodule that was never checked out."""
    left_out = []
    for entry in private.git("ls-files", "-z", "--stage", index=index).split(b"\0"):
        about, _, path = entry.partition(b"\t")
        if about.startswith(GITLINK):
            inner = Path(worktree, os.fsdecode(path))
            with contextlib.suppress(OSError):
                names = os.listdir(inner)  # noqa: PTH208
                if names and ".git" not in names:
                    left_out.append(
                        f"{os.fsdecode(path)} is a submodule's: its files are not taken"
                    )
    return left_out
