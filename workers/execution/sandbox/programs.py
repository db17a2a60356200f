"""What a program needs to be started: its own installation, its interpreter, what is on PATH.

A CLI may be installed anywhere: by npm in a user's prefix, by nvm or pyenv, in a virtual
environment. Symbolic links and interpreter lines tell where. What else it needs is named by
`backends.<name>.paths`.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

MOST_STEPS = 20
"""More links and interpreters than any program has in a row."""
PROGRAM_DIRECTORIES = frozenset({"bin", "sbin", "shims"})
LINE_BYTES = 256
"""The kernel reads no more of an interpreter's line."""


def readable(programs: Iterable[str], search: str, home: str) -> tuple[str, ...]:
    """Return the directories and files that programs need; `search` is PATH.

    Neither a home nor what contains it is among them, whatever is installed there.
    """
    found: dict[str, None] = {}
    for program in programs:
        for path in _steps(program, search):
            found.update(dict.fromkeys(_around(path, home)))
    for directory in search.split(os.pathsep):
        if directory.startswith("/"):
            found.update(dict.fromkeys(_of_directory(Path(directory), home)))
    return tuple(found)


def _steps(program: str, search: str) -> Iterator[Path]:
    """Yield a program, what its links lead to, its interpreter, and so on."""
    waiting = [program]
    for _ in range(MOST_STEPS):
        if not waiting:
            return
        named = waiting.pop()
        located = named if named.startswith("/") else shutil.which(named, path=search)
        if located is None or not _is_file(located):
            return
        path = Path(located).absolute()
        while os.path.islink(path):  # noqa: PTH114
            yield path
            path = Path(os.path.normpath(path.parent / path.readlink()))
        yield path
        yield Path(os.path.realpath(path))
        waiting += _interpreter(path)


def _interpreter(path: Path) -> list[str]:
    """Return the program that a script is run by, if this is one."""
    try:
        with path.open("rb") as stream:
            line = stream.readline(LINE_BYTES)
    except OSError:
        return []
    if not line.startswith(b"#!"):
        return []
    try:
        words = shlex.split(os.fsdecode(line[2:]))
    except ValueError:
        return []
    if words and Path(words[0]).name == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return words[:1]


def _around(path: Path, home: str) -> Iterator[str]:
    """Yield a file of a program, and the installation that it belongs to.

    A program in a directory that is not for programs comes alone: anything may be beside it.
    """
    yield str(path)
    if path.parent.name in PROGRAM_DIRECTORIES or "node_modules" in path.parts:
        yield from _of_directory(path.parent, home)


def _of_directory(directory: Path, home: str) -> Iterator[str]:
    """Yield a directory of programs, and the installation that it belongs to."""
    prefix, parts = directory.parent, directory.parts
    if "node_modules" in parts:
        directory = Path(*parts[: parts.index("node_modules") + 1])
    elif directory.name == "shims":  # pyenv, rbenv, asdf, mise
        directory = prefix
    yield from _allowed(directory, home)
    if directory.name in {"bin", "sbin"}:
        if _is_file(prefix / "pyvenv.cfg"):
            yield from _allowed(prefix, home)
            yield from _base_of(prefix, home)
        elif _is_readable(prefix / "lib"):
            is_installation = prefix.name != ".local"  # where much else is, too
            yield from _allowed(prefix if is_installation else prefix / "lib", home)


def _base_of(environment: Path, home: str) -> Iterator[str]:
    """Yield the installation of Python that a virtual environment was made with."""
    for line in (environment / "pyvenv.cfg").read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "home" and Path(value.strip()).name == "bin":
            yield from _allowed(Path(os.path.realpath(value.strip())).parent, home)


def _allowed(directory: Path, home: str) -> Iterator[str]:
    """Yield a directory, unless it is one in which much else is."""
    contains_home = Path(home).is_relative_to(directory)
    is_shallow = len(directory.parts) <= 2 or directory.parts[1] in {"etc", "proc", "run"}
    if not contains_home and not is_shallow and _is_readable(directory):
        yield str(directory)


# Not those of pathlib, which raise where a directory above must not be entered.


def _is_file(path: str | Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


def _is_readable(directory: Path) -> bool:
    return os.path.isdir(directory) and os.access(directory, os.R_OK | os.X_OK)  # noqa: PTH112
