"""What counts as the state of a directory, and that nobody can have it told wrongly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clinvk.core.spec import TaskSpec
from tests.unit.git.checkouts import git, repository
from workers.execution.reuse.directory_state import (
    DirectoryState,
    DirectoryStates,
    UnknownStateError,
)

SHARED = TaskSpec(backend="echo", prompt="x")


@pytest.fixture
def top(tmp_path: Path) -> Path:
    files = {"a": "a\n", "src/b": "b\n", "tasks.json": "[]", ".gitignore": "*.log\n"}
    return repository(tmp_path / "repo", files)


def look(states: DirectoryStates, top: Path, spec: TaskSpec = SHARED) -> DirectoryState:
    return states.of(spec, os.path.realpath(top))


def test_each_change_of_a_file_counts_and_taking_it_back_does_too(top: Path) -> None:
    states = DirectoryStates([])
    first = look(states, top)
    (top / "x.log").write_text("ignored by git")
    assert look(states, top) == first
    (top / "a").write_text("A\n")
    changed = look(states, top)
    (top / "new").write_text("untracked")
    both = look(states, top)
    assert len({first.tree, changed.tree, both.tree}) == 3
    (top / "new").unlink()
    (top / "a").write_text("a\n")
    assert look(states, top) == first
    assert look(DirectoryStates([]), top) == first
    assert look(states, top / "src") != first


def test_what_the_command_itself_reads_and_writes_does_not_count(top: Path) -> None:
    states = DirectoryStates([str(top / "tasks.json"), str(top / "out")])
    first = look(states, top)
    (top / "tasks.json").write_text("[1]")
    (top / "out").mkdir()
    (top / "out" / "001.json").write_text("{}")
    assert look(states, top) == first
    git(top, "add", "tasks.json")
    git(top, "commit", "-m", "tasks")
    fresh = DirectoryStates([str(top / "tasks.json"), str(top / "out")])
    assert look(fresh, top) == first
    assert look(DirectoryStates([]), top) != first


def test_an_index_of_the_users_that_hides_a_change_is_not_believed(top: Path) -> None:
    first = look(DirectoryStates([]), top)
    git(top, "update-index", "--assume-unchanged", "a")
    (top / "a").write_text("hidden\n")
    assert look(DirectoryStates([]), top) != first


def test_a_worktree_is_of_its_commit_and_of_what_is_not_committed(top: Path) -> None:
    spec = TaskSpec(backend="echo", prompt="x", workspace="worktree")
    at_commit = TaskSpec(backend="echo", prompt="x", workspace="worktree", ref="HEAD")
    states = DirectoryStates([])
    first, committed = look(states, top, spec), look(states, top, at_commit)
    assert first == committed
    (top / "a").write_text("A\n")
    assert look(states, top, spec).tree != first.tree
    assert look(states, top, at_commit) == committed


def test_what_git_cannot_tell_is_unknown(top: Path, tmp_path: Path) -> None:
    states = DirectoryStates([])
    with pytest.raises(UnknownStateError, match="no git repository"):
        look(states, tmp_path)
    before = look(states, top / "src")
    repository(top / "src" / "inner", {"c": "c\n"})
    assert look(states, top / "src") != before
    assert look(states, top / "src" / "inner").path == "."
