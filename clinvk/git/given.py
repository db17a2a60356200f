"""What a task is given of a checkout: a commit, what is not committed, and ignored files."""

from __future__ import annotations

from pathlib import Path

from clinvk.git import merges, snapshot
from clinvk.git.private_repository import PrivateRepository
from clinvk.git.repository import Repository
from clinvk.git.runner import GitError

INCLUDE_FILE = ".worktreeinclude"


def trees(
    private: PrivateRepository, repository: Repository, base: str, ref: str, *, with_changes: bool
) -> tuple[str, str]:
    """Return the tree that a task is given, and that of its commit `base`, which `ref` names.

    Raises:
        GitError: they cannot be read, or what is not committed does not fit.
    """
    base_tree = private.tree_of(base)
    if not with_changes:
        return base_tree, base_tree
    head = repository.commit("HEAD")
    now = snapshot.take(private, repository.top, user_index(private, repository, head)).tree
    if head == base:
        return now, base_tree
    merged = merges.merge(private, private.tree_of(head), base_tree, now)
    if merged.conflicts:
        raise GitError(
            f"the changes that are not committed do not go together with {ref} "
            f"({', '.join(merged.conflicts[:5])}): include_changes: false leaves them out"
        )
    return merged.tree, base_tree


def user_index(private: PrivateRepository, repository: Repository, head: str) -> str:
    """Return a copy of the index of the user's checkout, which says what has not changed.

    Raises:
        GitError: it cannot be made.
    """
    path = f"{private.path}/index-of-user"
    private.copy_index(repository, head, path)
    return path


def included(private: PrivateRepository, top: str, index: str) -> list[bytes]:
    """Return the ignored files of a checkout that the patterns of `.worktreeinclude` name.

    The patterns are those of a `.gitignore`.

    Raises:
        GitError: the files cannot be listed.
    """
    patterns = Path(top, INCLUDE_FILE)
    if patterns.is_symlink() or not patterns.is_file():
        return []
    listed = private.git(
        *("ls-files", "-z", "--others", "--ignored", f"--exclude-from={patterns}"),
        worktree=top,
        index=index,
    )
    names = [b"./" + name for name in listed.split(b"\0") if name]
    ignored = private.git(
        *("check-ignore", "-z", "--stdin"),
        worktree=top,
        index=index,
        stdin=b"\0".join([*names, b""]),
        allowed=(0, 1),  # 1: none is
    )
    return [name for name in ignored.split(b"\0") if name]
