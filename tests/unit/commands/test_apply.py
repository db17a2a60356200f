"""`clinvk apply`: each task whole or not at all, and nothing of the user's is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from clinvk.core.spec import ErrorKind
from clinvk.local import reach
from clinvk.store.store import Store
from tests.unit.commands.changed_run import (
    RUN,
    ChangedRun,
    commit,
    delete,
    each,
    line,
    write,
)
from tests.unit.fake_fleet import Clinvk
from tests.unit.git.checkouts import TREES, Tree, read_tree, repository, write_tree


@pytest.fixture
def run(
    tmp_path: Path, store: Store, clinvk: Clinvk, monkeypatch: pytest.MonkeyPatch
) -> ChangedRun:
    found = ChangedRun(tmp_path, store)
    monkeypatch.setattr(reach, "has_run", found.has_run)
    monkeypatch.chdir(found.top)
    for name, value in (("NAME", "Bob"), ("EMAIL", "bob@example.org")):
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    return found


def test_the_changes_of_one_task(run: ChangedRun, clinvk: Clinvk) -> None:
    run.task(each(line(3, "three"), write("new", "new\n"), delete("a")))
    run.record()
    before = run.git("rev-parse", "HEAD")
    done = clinvk("apply", RUN)
    assert (done.status, done.stdout, done.stderr) == (0, "[1] applied: task 1\n", "")
    assert run.status() == [" M README", " D a", "?? new"]
    assert "three\n" in run.text("README")
    assert run.git("rev-parse", "HEAD") == before
    assert run.git("count-objects").startswith("5 objects")  # nothing is left in the repository


def test_changes_stay_where_they_are_until_they_are_applied(
    run: ChangedRun, clinvk: Clinvk
) -> None:
    run.task(line(3, "three"))
    run.task(write("b", "bb\n"))
    run.record()
    assert clinvk("apply", RUN).stderr == (
        "clinvk: several tasks have changes (1, 2): name some, or give --all-ok\n"
    )
    assert run.status() == []
    assert clinvk("apply", RUN, "2").status == 0
    assert run.status() == [" M b"]


def test_tasks_that_go_together_are_applied_one_after_another(
    run: ChangedRun, clinvk: Clinvk
) -> None:
    run.task(line(3, "three"))
    run.task(line(20, "twenty"))
    run.record()
    assert clinvk("apply", RUN, "1", "2").status == 0
    assert {"three", "twenty"} <= set(run.text("README").splitlines())


def test_all_that_is_ok_in_the_order_with_the_fewest_conflicts(
    run: ChangedRun, clinvk: Clinvk
) -> None:
    run.task(each(line(3, "first"), line(20, "first")))
    run.task(line(3, "second"))
    run.task(line(20, "third"))
    run.task(write("b", "bb\n"))
    run.task(write("b", "failed\n"), ErrorKind.FAILED)
    run.record()
    done = clinvk("apply", RUN, "--all-ok")
    assert done.status == 1
    applied = [row.partition("]")[0] for row in done.stdout.splitlines()]
    assert applied == ["[4", "[2", "[3"]
    assert done.stderr == (
        "[1] is not applied: it does not go together with README (--3way may help)\n"
    )
    assert "first" not in run.text("README")


def test_where_the_lines_around_differ_a_merge_helps(run: ChangedRun, clinvk: Clinvk) -> None:
    run.task(line(3, "three"))
    run.record()
    line(5, "five")(run.top)
    done = clinvk("apply", RUN)
    assert (done.status, done.stdout) == (1, "")
    assert "it does not go together with README (--3way may help)" in done.stderr
    done = clinvk("apply", RUN, "--3way")
    assert done.status == 0
    assert {"three", "five"} <= set(run.text("README").splitlines())


def test_a_real_conflict_leaves_the_files_as_they_were(run: ChangedRun, clinvk: Clinvk) -> None:
    run.task(each(line(3, "three"), write("new", "x")))
    run.record()
    line(3, "drei")(run.top)
    before = read_tree(run.top)
    done = clinvk("apply", RUN, "--3way")
    assert (done.status, done.stdout) == (1, "")
    assert done.stderr == "[1] is not applied: it does not go together with README\n"
    assert read_tree(run.top) == before


def test_what_is_not_committed_is_told_and_can_be_had_back(run: ChangedRun, clinvk: Clinvk) -> None:
    write("notes", "mine\n")(run.top)
    line(9, "nine")(run.top)
    run.task(each(write("notes", "yours\n"), line(10, "ten")))
    run.record()
    done = clinvk("apply", RUN)
    assert done.status == 0
    told, back = done.stderr.splitlines()
    assert told == "not committed here, and changed: README, notes"
    assert run.text("notes") == "yours\n"
    assert {"nine", "ten"} <= set(run.text("README").splitlines())
    kept = back.split()[5]
    assert run.git("show", f"{kept}:notes") == "mine"


def test_untracked_files_are_not_deleted(run: ChangedRun, clinvk: Clinvk) -> None:
    """Neither those that the task never saw, nor those that it deleted in its own worktree."""
    write("notes", "mine\n")(run.top)
    run.task(delete("notes"))
    run.task(write("b", "bb\n"))
    run.record()
    write("later", "later\n")(run.top)
    done = clinvk("apply", RUN, "1")
    assert done.status == 1
    assert "it deletes what is in no commit here: commit it, or remove it, first: notes" in (
        done.stderr
    )
    assert clinvk("apply", RUN, "2").status == 0
    assert run.status() == [" M b", "?? later", "?? notes"]


def test_an_ignored_file_is_not_overwritten(run: ChangedRun, clinvk: Clinvk) -> None:
    run.task(write("x.log", "theirs"))
    run.record()
    (run.top / ".git" / "info" / "exclude").write_text("*.log\n")
    write("x.log", "mine")(run.top)
    done = clinvk("apply", RUN)
    assert done.status == 1
    assert "ignored files are in its way: x.log" in done.stderr
    assert run.text("x.log") == "mine"


def test_each_task_becomes_a_commit(run: ChangedRun, clinvk: Clinvk) -> None:
    run.task(commit(line(3, "three"), "Number three"), name="Fix three")
    run.task(write("new", "new\n"))
    run.record()
    hook = run.top / ".git" / "hooks" / "reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch {run.top}/hooked\n")
    hook.chmod(0o755)
    write("mine", "mine\n")(run.top)
    done = clinvk("apply", RUN, "1", "2", "--commit")
    assert done.status == 0, done.stderr
    assert run.status() == ["?? mine"]
    log = run.git("log", "--format=%an:%B", "-2").split("\n\n")
    assert log == [
        "Bob:task 2",
        f"clinvk-task: {RUN}/2",
        "Bob:Fix three",
        "Number three",
        f"clinvk-task: {RUN}/1",
    ]
    assert run.git("show", "--name-only", "--format=", "HEAD") == "new"


def test_no_commit_takes_what_the_user_has_not_committed(run: ChangedRun, clinvk: Clinvk) -> None:
    line(20, "mine")(run.top)
    run.task(line(3, "three"))
    run.record()
    done = clinvk("apply", RUN, "--commit")
    assert done.status == 1
    assert done.stderr == "[1] is not applied: not committed here: README\n"
    assert run.status() == [" M README"]


def test_a_branch_for_each_task(run: ChangedRun, clinvk: Clinvk) -> None:
    write("mine", "mine\n")(run.top)
    last = run.task(each(commit(line(3, "3"), "Own"), line(4, "4")))
    run.task(commit(write("b", "bb\n"), "All of it"))
    run.task(write("a", "aa\n"))
    run.record()
    done = clinvk("apply", RUN, "--all-ok", "--branch", "fix/")
    assert done.status == 0, done.stderr
    assert run.status() == ["?? mine"]
    assert run.git("log", "--format=%s", "main..fix/1").split("\n") == ["task 1", "Own"]
    assert run.git("rev-parse", "fix/1~1") == last.head
    assert run.git("log", "--format=%s %an", "main..fix/2") == "All of it Ann"
    assert run.git("log", "--format=%s", "main..fix/3").split("\n") == [
        "task 3",
        "Changes that were not committed when the task began",
    ]
    again = clinvk("apply", RUN, "3", "--branch", "fix/")
    assert again.status == 1
    assert again.stderr.startswith("[3] has no branch: ")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("1", "--all-ok"), "name tasks, or give --all-ok"),
        (("1", "--commit", "--branch", "x"), "--branch makes commits: give it without --commit"),
        (("9",), f"run {RUN} has no task 9: it has 2, from 1"),
        (("2",), f"task 2 of run {RUN} has no changes: it changed nothing"),
    ],
)
def test_bad_usage(
    run: ChangedRun, clinvk: Clinvk, arguments: tuple[str, ...], problem: str
) -> None:
    run.task(line(3, "three"))
    run.task(lambda _: None)
    run.record()
    done = clinvk("apply", RUN, *arguments)
    assert (done.status, done.stderr) == (2, f"clinvk: {problem}\n")


def test_elsewhere_than_in_the_repository(
    run: ChangedRun, clinvk: Clinvk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    changes = run.task(line(3, "three"))
    run.record()
    monkeypatch.chdir(tmp_path)
    assert f"{tmp_path} is in no git repository" in clinvk("apply", RUN).stderr
    monkeypatch.chdir(repository(tmp_path / "other"))
    assert f"has no commit {changes.base}: fetch it first" in clinvk("apply", RUN).stderr


@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=TREES, after=TREES)
def test_any_files_arrive_as_the_task_left_them(
    tmp_path_factory: pytest.TempPathFactory,
    clinvk: Clinvk,
    monkeypatch: pytest.MonkeyPatch,
    before: Tree,
    after: Tree,
) -> None:
    import fakeredis

    run = ChangedRun(tmp_path_factory.mktemp("any"), Store(fakeredis.FakeRedis()))
    monkeypatch.setattr(reach, "has_run", run.has_run)
    monkeypatch.chdir(run.top)
    write_tree(run.top, before)
    run.git("add", "--all")
    run.git("commit", "--quiet", "--allow-empty", "--message", "before")
    changed = run.task(lambda top: write_tree(top, after)).any
    run.record()
    if changed:
        assert clinvk("apply", RUN).status == 0
    assert read_tree(run.top) == after
    os.chdir("/")
