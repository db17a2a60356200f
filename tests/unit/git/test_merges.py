"""Merges of trees, many at once."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from clinvk.git import merges, runner
from clinvk.git.merges import Commits, Merge, Merged
from clinvk.git.private_repository import PrivateRepository
from clinvk.git.repository import Repository
from tests.unit.git.checkouts import git, repository


@pytest.fixture
def private(tmp_path: Path) -> PrivateRepository:
    repository(tmp_path / "app", {"a": "1\n2\n3\n4\n5\n", "b": "b\n"})
    found = Repository.around(str(tmp_path / "app"))
    assert found is not None
    return PrivateRepository.create(str(tmp_path / "private"), found).writing(found.objects)


def tree(top: Path, name: str, text: str) -> str:
    """Return the tree of the first commit with a file changed."""
    git(top, "read-tree", "HEAD")
    (top / name).parent.mkdir(exist_ok=True)
    (top / name).write_text(text)
    git(top, "update-index", "--add", name)
    return git(top, "write-tree")


def test_each_of_many_is_as_if_it_were_alone(
    private: PrivateRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "app"
    base = git(top, "rev-parse", "HEAD^{tree}")
    first, last = tree(top, "a", "one\n2\n3\n4\n5\n"), tree(top, "a", "1\n2\n3\n4\nfive\n")
    other, new = tree(top, "a", "uno\n2\n3\n4\n5\n"), tree(top, "new\n", "new\n")
    changed = [base, first, last, other, new]
    wanted = [Merge(base, ours, theirs) for ours, theirs in product(changed, changed)]
    monkeypatch.setattr(merges, "AT_ONCE", 5)
    found = dict(zip(wanted, merges.merge_all(Commits(private), wanted), strict=True))
    assert found == {each: merges.merge(private, base, each.ours, each.theirs) for each in wanted}
    assert {(each.ours, each.theirs) for each in wanted if found[each].conflicts == ["a"]} == {
        (first, other),
        (other, first),
    }
    both = git(top, "show", f"{found[Merge(base, first, last)].tree}:a")
    assert both == "one\n2\n3\n4\nfive"
    assert found[Merge(base, first, first)] == found[Merge(base, base, first)] == Merged(first)
    named = git(top, "ls-tree", "-z", "--name-only", found[Merge(base, new, first)].tree)
    assert named == "a\0b\0new\n\0"


def test_many_take_one_process_and_a_commit_of_each_tree(
    private: PrivateRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "app"
    base = git(top, "rev-parse", "HEAD^{tree}")
    changed = [tree(top, f"new{number}", "new\n") for number in range(5)]
    started = []
    start = runner.subprocess.run  # type: ignore[attr-defined]

    def run(command: list[str], **how: object) -> object:
        started.append(next(part for part in command if part in {"merge-tree", "hash-object"}))
        return start(command, **how)

    monkeypatch.setattr(runner.subprocess, "run", run)  # type: ignore[attr-defined]
    merges.merge_all(Commits(private), [Merge(base, *pair) for pair in product(changed, changed)])
    assert sorted(started) == ["hash-object"] * 6 + ["merge-tree"]
