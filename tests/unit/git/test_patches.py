"""A patch takes every change, and makes the very same files of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from clinvk.git import patches, snapshot
from clinvk.git.private_repository import PrivateRepository, copy_file
from clinvk.git.repository import Repository
from clinvk.git.runner import GitError, TooLargeError
from tests.unit.git.checkouts import TREES, Tree, git, read_tree, repository, write_tree


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo", {"README": "read me\n", "src/a.py": "a = 1\n" * 9})


def private_of(top: Path) -> PrivateRepository:
    found = Repository.around(str(top))
    assert found is not None
    return PrivateRepository.create(str(top.parent / "private"), found)


def tree_of(private: PrivateRepository, top: Path) -> str:
    return snapshot.take(private, str(top), f"{private.path}/index").tree


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=TREES, after=TREES)
def test_any_files_come_out_of_a_patch_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, before: Tree, after: Tree
) -> None:
    top = repository(tmp_path_factory.mktemp("any") / "repo")
    private = private_of(top)
    write_tree(top, before)
    first = tree_of(private, top)
    write_tree(top, after)
    second = tree_of(private, top)
    patch = patches.make(private, first, second)
    made = patches.apply(private, first, patch, f"{private.path}/scratch")
    assert made == second
    out = tmp_path_factory.mktemp("out")
    private.check_out(made, str(out), f"{private.path}/fresh")
    assert read_tree(out) == after
    shutil.rmtree(top.parent)


def test_renames_modes_and_submodules_are_in_a_patch(top: Path) -> None:
    private = private_of(top)
    commit = git(top, "rev-parse", "HEAD")
    git(top, "update-index", "--add", "--cacheinfo", f"160000,{commit},lib")
    (top / "lib").mkdir()
    copy_file(str(top / ".git" / "index"), f"{private.path}/index")
    before = tree_of(private, top)
    (top / "src" / "a.py").rename(top / "src" / "b.py")
    (top / "README").chmod(0o755)
    other = repository(top.parent / "other", {"x": "x"})
    shutil.rmtree(top / "lib")
    other.rename(top / "lib")
    after = tree_of(private, top)
    patch = patches.make(private, before, after)
    for told in (b"rename to src/b.py", b"new mode 100755", b"Subproject commit "):
        assert told in patch
    assert patches.apply(private, before, patch, f"{private.path}/scratch") == after
    found = {change.path: change for change in patches.changes(private, before, after)}
    assert found["src/b.py"].was == "src/a.py"
    assert (found["README"].insertions, found["README"].deletions) == (0, 0)


def test_a_patch_that_does_not_fit_says_so(top: Path) -> None:
    private = private_of(top)
    before = tree_of(private, top)
    (top / "README").write_text("other\n")
    after = tree_of(private, top)
    patch = patches.make(private, before, after)
    (top / "README").write_text("third\n")
    with pytest.raises(GitError, match="patch failed: README:1"):
        patches.apply(private, tree_of(private, top), patch, f"{private.path}/scratch")


def test_a_patch_over_the_limit_says_how_long_it_is(top: Path) -> None:
    private = private_of(top)
    before = tree_of(private, top)
    (top / "README").write_text("x\n" * 1000)
    with pytest.raises(TooLargeError, match=r"\d{4} bytes, more than 1000"):
        patches.make(private, before, tree_of(private, top), 1000)


def test_what_the_user_or_the_repository_sets_for_diffs_changes_no_patch(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = private_of(top)
    before = tree_of(private, top)
    ran = top.parent / "ran"
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", f"touch {ran}; true")
    for name in ("diff.external", "diff.x.command", "diff.x.textconv", "diff.x.binary"):
        git(top, "config", name, f"touch {ran}; true")
    for name, value in (("color.ui", "always"), ("diff.noprefix", "true"), ("diff.context", "0")):
        git(top, "config", name, value)
    (top / ".gitattributes").write_text("*.py diff=x\nREADME -diff\n")
    (top / "src" / "a.py").write_text("b = 2\n")
    (top / "README").write_text("other\n")
    patch = patches.make(private, before, tree_of(private, top))
    assert b"\n-a = 1\n" in patch
    assert b"\n+++ b/README\n" in patch
    assert b"\x1b" not in patch
    assert not ran.exists()
