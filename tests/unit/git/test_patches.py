"""A patch takes every change, and makes the very same files of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from clinvk.git import patches, snapshot
from clinvk.git.bench import Bench, copy_file
from clinvk.git.repository import Repository
from clinvk.git.runner import GitError, TooLargeError
from tests.unit.git.checkouts import TREES, Tree, git, read_tree, repository, write_tree


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo", {"README": "read me\n", "src/a.py": "a = 1\n" * 9})


def bench_of(top: Path) -> Bench:
    found = Repository.around(str(top))
    assert found is not None
    return Bench.create(str(top.parent / "bench"), found)


def tree_of(bench: Bench, top: Path) -> str:
    return snapshot.take(bench, str(top), f"{bench.path}/index").tree


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=TREES, after=TREES)
def test_any_files_come_out_of_a_patch_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, before: Tree, after: Tree
) -> None:
    top = repository(tmp_path_factory.mktemp("any") / "repo")
    bench = bench_of(top)
    write_tree(top, before)
    first = tree_of(bench, top)
    write_tree(top, after)
    second = tree_of(bench, top)
    patch = patches.make(bench, first, second)
    made = patches.apply(bench, first, patch, f"{bench.path}/scratch")
    assert made == second
    out = tmp_path_factory.mktemp("out")
    bench.check_out(made, str(out), f"{bench.path}/fresh")
    assert read_tree(out) == after
    shutil.rmtree(top.parent)


def test_renames_modes_and_submodules_are_in_a_patch(top: Path) -> None:
    bench = bench_of(top)
    commit = git(top, "rev-parse", "HEAD")
    git(top, "update-index", "--add", "--cacheinfo", f"160000,{commit},lib")
    (top / "lib").mkdir()
    copy_file(str(top / ".git" / "index"), f"{bench.path}/index")
    before = tree_of(bench, top)
    (top / "src" / "a.py").rename(top / "src" / "b.py")
    (top / "README").chmod(0o755)
    other = repository(top.parent / "other", {"x": "x"})
    shutil.rmtree(top / "lib")
    other.rename(top / "lib")
    after = tree_of(bench, top)
    patch = patches.make(bench, before, after)
    for told in (b"rename to src/b.py", b"new mode 100755", b"Subproject commit "):
        assert told in patch
    assert patches.apply(bench, before, patch, f"{bench.path}/scratch") == after
    found = {change.path: change for change in patches.changes(bench, before, after)}
    assert found["src/b.py"].was == "src/a.py"
    assert (found["README"].insertions, found["README"].deletions) == (0, 0)


def test_a_patch_that_does_not_fit_says_so(top: Path) -> None:
    bench = bench_of(top)
    before = tree_of(bench, top)
    (top / "README").write_text("other\n")
    after = tree_of(bench, top)
    patch = patches.make(bench, before, after)
    (top / "README").write_text("third\n")
    with pytest.raises(GitError, match="patch failed: README:1"):
        patches.apply(bench, tree_of(bench, top), patch, f"{bench.path}/scratch")


def test_a_patch_over_the_limit_says_how_long_it_is(top: Path) -> None:
    bench = bench_of(top)
    before = tree_of(bench, top)
    (top / "README").write_text("x\n" * 1000)
    with pytest.raises(TooLargeError, match=r"\d{4} bytes, more than 1000"):
        patches.make(bench, before, tree_of(bench, top), 1000)


def test_what_the_user_or_the_repository_sets_for_diffs_changes_no_patch(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(top)
    before = tree_of(bench, top)
    ran = top.parent / "ran"
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", f"touch {ran}; true")
    for name in ("diff.external", "diff.x.command", "diff.x.textconv", "diff.x.binary"):
        git(top, "config", name, f"touch {ran}; true")
    for name, value in (("color.ui", "always"), ("diff.noprefix", "true"), ("diff.context", "0")):
        git(top, "config", name, value)
    (top / ".gitattributes").write_text("*.py diff=x\nREADME -diff\n")
    (top / "src" / "a.py").write_text("b = 2\n")
    (top / "README").write_text("other\n")
    patch = patches.make(bench, before, tree_of(bench, top))
    assert b"\n-a = 1\n" in patch
    assert b"\n+++ b/README\n" in patch
    assert b"\x1b" not in patch
    assert not ran.exists()
