"""Directories that tasks filled: what they take of their disk, and how they are removed."""

from __future__ import annotations

import contextlib
import os
import shutil


def size_bytes(path: str) -> int:
    """Return what the files below a directory take, about: they may come and go meanwhile."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118
    return total


def remove(path: str) -> None:
    """Remove a directory, also where its owner may not write to some of it."""
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        for folder, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                os.chmod(folder, 0o700)  # noqa: PTH101
        shutil.rmtree(path, ignore_errors=True)
