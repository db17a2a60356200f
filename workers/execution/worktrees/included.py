"""`.worktreeinclude`: ignored files of the user's checkout that a worktree gets as well."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from clinvk.git.private_repository import PrivateRepository

NAME = ".worktreeinclude"


def copy(private: PrivateRepository, source: str, target: str, index: str) -> None:
    """Copy the ignored files that the patterns of `.worktreeinclude` name.

    The patterns are those of a `.gitignore`. Links are copied as links, and what is in the target
    already stays as it is.

    Raises:
        GitError: the files cannot be listed.
        OSError: one cannot be copied.
    """
    patterns = Path(source, NAME)
    if patterns.is_symlink() or not patterns.is_file():
        return
    listed = private.git(
        *("ls-files", "-z", "--others", "--ignored", f"--exclude-from={patterns}"),
        worktree=source,
        index=index,
    )
    names = [b"./" + name for name in listed.split(b"\0") if name]
    ignored = private.git(
        *("check-ignore", "-z", "--stdin"),
        worktree=source,
        index=index,
        stdin=b"\0".join([*names, b""]),
        allowed=(0, 1),  # 1: none is
    )
    for name in filter(None, ignored.split(b"\0")):
        _copy(os.fsencode(source) + b"/" + name, os.fsencode(target) + b"/" + name)


def _copy(source: bytes, target: bytes) -> None:
    if os.path.lexists(target) or source.endswith(b"/"):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
    shutil.copy2(source, target, follow_symlinks=False)
