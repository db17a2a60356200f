"""Repositories for tests, made by git itself, and file trees of every kind."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from hypothesis import strategies as st

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
    "GIT_CONFIG_NOSYSTEM": "1",
}

Tree = dict[bytes, tuple[str, bytes]]
"""The files of a directory: by path, its kind (file, program or link) and its content."""


def git(directory: Path, *arguments: str) -> str:
    """Run git as a user does."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        env={**os.environ, **IDENTITY},
        check=True,
        capture_output=True,
    )
    return done.stdout.decode("utf-8", "surrogateescape").strip()


def repository(path: Path, files: dict[str, str] | None = None) -> Path:
    """Make a repository with one commit."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    for name, text in (files or {"README": "read me\n"}).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--message", "first")
    return path


def read_tree(directory: Path) -> Tree:
    """Read what is in a directory, but for git's own."""
    found: Tree = {}
    top = os.fsencode(directory)
    for folder, folders, names in os.walk(top):
        if folder == top and b".git" in folders:
            folders.remove(b".git")
        for name in [*names, *folders]:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, top)
            if os.path.islink(path):
                found[relative] = ("link", os.readlink(path))
            elif os.path.isfile(path):
                kind = "program" if os.stat(path).st_mode & 0o100 else "file"
                found[relative] = (kind, Path(os.fsdecode(path)).read_bytes())
    return found


def write_tree(directory: Path, tree: Tree) -> None:
    """Make a directory, but for git's own, have just these files."""
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            if entry.name != ".git":
                shutil.rmtree(entry)
        else:
            entry.unlink()
    for relative, (kind, content) in tree.items():
        path = os.path.join(os.fsencode(directory), relative)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if kind == "link":
            os.symlink(content, path)
        else:
            with open(path, "wb") as file:
                file.write(content)
            os.chmod(path, 0o755 if kind == "program" else 0o644)


PARTS = st.sampled_from(
    [
        b"a",
        b"b",
        b"dir",
        b"-x",
        b"with space",
        b"caf\xe9",
        "é".encode(),
        b'"q"',
        b"t\tb",
        b"n\nl",
        b"*",
    ]
)
PATHS = st.lists(PARTS, min_size=1, max_size=3).map(b"/".join)
TEXTS = st.sampled_from(
    [
        b"",
        b"x",
        b"x\n",
        b"x\r\ny\n",
        b"\r\n" * 3,
        b"line\n" * 40,
        b"\0\1\2",
        b"caf\xe9\n",
        bytes(range(256)) * 9,
    ]
)
CONTENTS = st.one_of(TEXTS, st.binary(max_size=60))
ENTRIES = st.one_of(
    st.tuples(st.sampled_from(["file", "program"]), CONTENTS),
    st.tuples(st.just("link"), st.sampled_from([b"a", b"../x", b"nowhere", b"caf\xe9"])),
)


def _without_clashes(tree: Tree) -> Tree:
    """Drop what would be below a file."""
    found: Tree = {}
    for path in sorted(tree, key=len):
        parts = path.split(b"/")
        above = (b"/".join(parts[:count]) for count in range(1, len(parts)))
        below = any(other.startswith(path + b"/") for other in found)
        if not below and not any(each in found for each in above):
            found[path] = tree[path]
    return found


TREES = st.dictionaries(PATHS, ENTRIES, max_size=6).map(_without_clashes)
"""Trees with names of any bytes, links, programs, and contents of all kinds."""
