"""Paths with `~`, for users who have no home too; directories that no umask opens to others.

What is in a directory is listed while others remove from it.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from clinvk.core.user_paths import (
    UnknownHomeError,
    expanded,
    expanded_default,
    make_directory,
    matching,
)


@pytest.fixture
def _homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry in the system's list, as containers have them."""

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)


@pytest.fixture
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_home_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    assert expanded("~/x") == expanded_default("~/x") == Path("/h/x")
    assert expanded("a/~x") == Path("a/~x")


@pytest.mark.usefixtures("_homeless")
def test_without_a_home_a_default_leads_nowhere_and_a_given_path_is_an_error() -> None:
    assert expanded_default("~/.clinvk/x") == Path("/nonexistent/.clinvk/x")
    assert expanded("/x") == expanded_default("/x") == Path("/x")
    what = rf"~/x: the user {os.getuid()} has no home: set HOME, or write the path in full"
    with pytest.raises(UnknownHomeError, match=what):
        expanded("~/x")


def test_an_unknown_user_is_named() -> None:
    for function in (expanded, expanded_default):
        with pytest.raises(UnknownHomeError, match="~nosuchuser/x: there is no user nosuchuser"):
            function("~nosuchuser/x")


@pytest.mark.usefixtures("_no_umask")
def test_directories_have_their_mode_whatever_the_umask_is(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b", 0o700)
    make_directory(tmp_path / "a" / "b", 0o700)
    for directory in (tmp_path / "a", tmp_path / "a" / "b"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_what_goes_while_it_is_looked_for_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept" / ".file"
    for path in (kept, tmp_path / "gone" / "file"):
        path.parent.mkdir()
        path.touch()
    scandir = os.scandir

    def remove_and_scan(path: str) -> object:
        if Path(path).name == "gone":
            Path(path, "file").unlink()
            Path(path).rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", remove_and_scan)
    assert matching(tmp_path, "*/*") == [kept]
    assert not (tmp_path / "gone").exists()
    assert matching(tmp_path / "never", "*") == []
