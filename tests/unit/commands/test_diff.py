"""`clinvk diff`: patches of tasks, exact, or the files that they change."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clinvk.local import reach
from clinvk.store.store import Store
from tests.unit.commands.changed_run import RUN, ChangedRun, commit, line, write
from tests.unit.fake_fleet import Clinvk


@pytest.fixture
def run(
    tmp_path: Path, store: Store, clinvk: Clinvk, monkeypatch: pytest.MonkeyPatch
) -> ChangedRun:
    found = ChangedRun(tmp_path, store)
    monkeypatch.setattr(reach, "has_run", found.has_run)
    return found


def test_a_patch_is_one_for_git(run: ChangedRun, clinvk: Clinvk) -> None:
    run.task(line(3, "three"))
    run.record()
    done = clinvk("diff", RUN, "1")
    assert done.stdout.startswith("[1] task 1: 1 file, +1 -1\ndiff --git a/README b/README\n")
    subprocess.run(["git", "apply", "-"], cwd=run.top, input=done.stdout.encode(), check=True)
    assert run.status() == [" M README"]


def test_files_and_counts(run: ChangedRun, clinvk: Clinvk) -> None:
    run.task(
        lambda top: [
            commit(write("b", "bb\n"), "b")(top),
            (top / "picture").write_bytes(b"\0\1"),
            (top / "a").rename(top / "evil\x1b[2J"),
        ]
    )
    run.task(lambda _: None)
    run.task(line(3, "three"))
    run.record()
    assert clinvk("diff", RUN, "--stat").stdout.splitlines() == [
        "[1] task 1: 4 files, +1 -1, 1 commit",
        "  b       | +1 -1",
        "  evil    | +0 -0",
        "  picture | binary",
        "[3] task 3: 1 file, +1 -1",
        "  README | +1 -1",
    ]


def test_a_run_without_changes(run: ChangedRun, clinvk: Clinvk) -> None:
    run.task(lambda _: None)
    run.record()
    done = clinvk("diff", RUN)
    assert done.status == 2
    assert done.stderr.startswith(f"clinvk: run {RUN} has no changes: tasks with workspace: ")
