"""Directories of a task's own: removed with it, or with its worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.execution.sandbox.private import (
    PrivateDirectories,
    passing_directory,
    remove_stale,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_it_is_empty_private_and_gone_afterwards(folder: Path) -> None:
    directories = PrivateDirectories()
    with directories.make() as first, directories.make() as second:
        assert first.path != second.path
        assert [*Path(first.home).iterdir(), *Path(first.temporary).iterdir()] == []
        assert Path(first.path).stat().st_mode & 0o777 == 0o700
        stubborn = Path(first.home, "a/b")
        stubborn.mkdir(parents=True)
        stubborn.parent.chmod(0)
    assert not Path(first.path).exists()


@pytest.mark.parametrize("make", ["PrivateDirectories().make()", "passing_directory()"])
def test_what_a_killed_worker_left_is_removed_and_what_is_in_use_is_not(
    folder: Path, make: str
) -> None:
    code = (
        "import os, tempfile; tempfile.tempdir = os.environ['FOLDER']\n"
        "from workers.execution.sandbox.private import PrivateDirectories, passing_directory\n"
        f"held = {make}; held.__enter__(); os.kill(os.getpid(), 9)"
    )
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "FOLDER": str(folder)}, check=False
    )
    (left,) = folder.iterdir()
    with PrivateDirectories().make() as private:
        assert not left.exists()
        remove_stale()
        assert Path(private.path).exists()


def test_a_passing_directory_is_gone_afterwards(folder: Path) -> None:
    with passing_directory() as made:
        (made / "file").touch()
        remove_stale()
        assert (made / "file").exists()
    assert list(folder.iterdir()) == []
