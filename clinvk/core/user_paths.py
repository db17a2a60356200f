"""Paths as users write them, directories with modes that no umask widens, and what is in them."""

from __future__ import annotations

import glob
import os
import stat
from pathlib import Path

NOWHERE = "/nonexistent"
"""The home of a user who has none, as Debian names it: nothing is there."""


class UnknownHomeError(ValueError):
    """A path begins with the home of nobody; the message says of whom."""


def expanded(path: str | Path) -> Path:
    """Return a path with its `~` replaced.

    Raises:
        UnknownHomeError: there is no such user, or this one has no home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        name = Path(path).parts[0].removeprefix("~")
        what = (
            f"there is no user {name}" if name else f"the user {os.getuid()} has no home: set HOME"
        )
        raise UnknownHomeError(f"{path}: {what}, or write the path in full") from None


def expanded_default(path: str) -> Path:
    """Return a default path with its `~` replaced; for a user without a home it leads nowhere.

    Raises:
        UnknownHomeError: it names another user, of whom there is none.
    """
    if path.startswith("~/") and not has_home():
        return Path(NOWHERE) / path.removeprefix("~/")
    return expanded(path)


def has_home() -> bool:
    """Whether this user has a home: HOME, or an entry in the system's list of users."""
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


def matching(directory: str | Path, pattern: str) -> list[Path]:
    """Return what is below a directory and matches a pattern of `glob`.

    What others remove at the same time is left out; `Path.glob` fails there before Python 3.13.
    """
    found = glob.glob(pattern, root_dir=directory, include_hidden=True, recursive=True)  # noqa: PTH207
    return [Path(directory, name) for name in found]


def make_directory(path: Path, mode: int) -> None:
    """Make a directory, and those above it, with at most these rights whatever the umask is.

    Raises:
        OSError: it cannot be made.
    """
    if not path.is_dir():
        if not path.parent.exists():
            make_directory(path.parent, mode)
        path.mkdir(mode=mode, exist_ok=True)


def is_private_directory(path: Path) -> bool:
    """Whether this is a directory of this user's own that nobody else can enter."""
    try:
        about = path.lstat()
    except OSError:
        return False
    is_own = about.st_uid == os.geteuid() and stat.S_ISDIR(about.st_mode)
    return is_own and not about.st_mode & 0o077
