"""What is mounted of a checkout, so that git runs nothing of a task's later."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from workers.execution.directory import open_directory
from workers.execution.sandbox.git_directory import Checkout, WorkdirError, linked_worktree


def git(where: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *identity, *arguments], cwd=where, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "main"
    root.mkdir()
    git(root, "init", "-q")
    git(root, "commit", "-q", "--allow-empty", "-m", "x")
    return root


@contextmanager
def checkout(workdir: Path, *, writable: bool = True) -> Iterator[Checkout]:
    empty = workdir.parent / "empty"
    empty.mkdir(exist_ok=True)
    with (
        closing(open_directory(str(workdir), None)) as directory,
        closing(Checkout(directory.fd, writable=writable, empty=str(empty))) as opened,
    ):
        yield opened


def mounts(workdir: Path, *, writable: bool = True) -> list[tuple[str, bool]]:
    """Return what is mounted, beneath the directory's parent, and whether it is writable."""
    with checkout(workdir, writable=writable) as opened:
        return [
            (str(Path(m.target).relative_to(workdir.parent)), m.writable) for m in opened.mounts
        ]


def test_hooks_and_settings_are_read_only_over_a_writable_git_directory(repository: Path) -> None:
    assert mounts(repository) == [
        ("main", True),
        ("main/.git", True),
        ("main/.git/hooks", False),
        ("main/.git/config", False),
    ]


def test_of_a_read_only_directory_all_is_read_only(repository: Path) -> None:
    assert mounts(repository, writable=False) == [("main", False)]


def test_hooks_cannot_be_made_where_there_are_none(repository: Path) -> None:
    for path in (repository / ".git/hooks").iterdir():
        path.unlink()
    (repository / ".git/hooks").rmdir()
    assert ("main/.git/hooks", False) in mounts(repository)


def test_submodules_are_guarded_too(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "x")
    git(repository, "submodule", "add", "-q", str(other), "libs/other")
    assert ("main/.git/modules/libs/other/config", False) in mounts(repository)
    assert ("main/.git/modules/libs/other/hooks", False) in mounts(repository)


def test_a_worktree_has_the_main_repository_and_no_other_worktree(repository: Path) -> None:
    worktree = repository.parent / "tree"
    git(repository, "worktree", "add", "-q", str(worktree))
    assert mounts(worktree) == [
        ("tree", True),
        ("main/.git", True),
        ("main/.git/hooks", False),
        ("main/.git/config", False),
        ("main/.git/worktrees", False),
        ("main/.git/worktrees/tree", True),
        ("main/.git/worktrees/tree/commondir", False),
        ("main/.git/worktrees/tree/gitdir", False),
        ("tree/.git", False),
    ]
    assert mounts(worktree, writable=False) == [("tree", False), ("main/.git", False)]


def test_a_file_that_claims_to_be_a_worktree_opens_nothing(
    repository: Path, tmp_path: Path
) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "tree"))
    pointer = (tmp_path / "tree/.git").read_text()
    for text in (pointer, f"gitdir: {tmp_path}/secret", "gitdir: ", "", "gitdir: ../../etc\n"):
        liar = tmp_path / "liar"
        liar.mkdir(exist_ok=True)
        (liar / ".git").write_text(text)
        assert linked_worktree(str(liar), text) is None
        assert mounts(liar) == [("liar", True)]


def test_symbolic_links_are_not_followed(repository: Path, tmp_path: Path) -> None:
    liar = tmp_path / "liar"
    liar.mkdir()
    (liar / ".git").symlink_to(repository / ".git")
    with pytest.raises(WorkdirError, match=r"\.git of its git repository is a symbolic link"):
        mounts(liar)
    assert mounts(liar, writable=False) == [("liar", False)]
    hooks = repository / ".git/hooks"
    for path in hooks.iterdir():
        path.unlink()
    hooks.rmdir()
    hooks.symlink_to(tmp_path)
    with pytest.raises(WorkdirError, match="hooks of its git repository"):
        mounts(repository)


def test_a_file_that_leads_git_elsewhere_is_removed(repository: Path) -> None:
    with checkout(repository) as opened:
        assert not opened.clean()
        (repository / ".git/commondir").write_text("/evil")
        assert opened.clean()
    assert not (repository / ".git/commondir").exists()


def test_a_directory_of_another_user_is_said_to_be_one(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with checkout(tmp_path) as opened:
        assert "cannot write there" in (opened.access_problem() or "")
    with checkout(tmp_path, writable=False) as opened:
        assert opened.access_problem() is None
    tmp_path.chmod(0o700)
