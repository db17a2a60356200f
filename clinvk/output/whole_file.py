"""Files that appear whole: nobody sees a part of one, also where the program is killed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from clinvk.core.errors import UsageError
from clinvk.core.user_paths import UnknownHomeError, expanded, make_directory

DIRECTORY_MODE = 0o755


def write_whole(path: Path, pieces: Iterable[str]) -> None:
    """Write a file, mode 0600, in the place of what has its name.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".clinvk-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.writelines(pieces)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def writable_directory(name: str, path: str) -> Path:
    """Return a directory that files can be written to; it is made where it is missing.

    Raises:
        UsageError: it cannot be made or written to; `name` says who wants it.
    """
    directory = _expanded(name, path)
    _check(name, directory)
    return directory


def writable_file(name: str, path: str) -> Path:
    """Return the path of a file that can be written; its directory is made where it is missing.

    Raises:
        UsageError: it cannot be written; `name` says who wants it.
    """
    file = _expanded(name, path)
    if file.is_dir():
        raise UsageError(f"{name}: {file} is a directory, and a file is to be written there")
    _check(name, file.parent)
    return file


def _expanded(name: str, path: str) -> Path:
    try:
        return expanded(path)
    except UnknownHomeError as error:
        raise UsageError(f"{name}: {error}") from error


def _check(name: str, directory: Path) -> None:
    try:
        make_directory(directory, DIRECTORY_MODE)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UsageError(f"{name}: cannot write to {directory}: {error.strerror}") from error
