"""Version 2 of cgroups, on directories that look like those of the kernel."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from workers.execution import cgroups
from workers.execution.cgroups import Limits, TaskGroups

UNIT = "system.slice/clinvk-worker@claude.service"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hierarchy with the worker's own group; a directory goes with its files, as there."""
    monkeypatch.setattr(Path, "rmdir", shutil.rmtree)
    monkeypatch.setattr(cgroups, "END_SECONDS", 0.0)
    unit = tmp_path / "fs" / UNIT
    unit.mkdir(parents=True)
    (unit / "cgroup.controllers").write_text("cpu memory pids\n")
    (unit / "cgroup.subtree_control").write_text("memory pids\n")
    (unit / "cgroup.procs").write_text("")
    (tmp_path / "own").write_text(f"0::/{UNIT}\n")
    return tmp_path


def groups(root: Path) -> TaskGroups:
    return TaskGroups(root / "fs", root / "own")


def test_a_task_gets_a_group_with_its_limits_which_goes_with_it(root: Path) -> None:
    made = groups(root)
    assert made.missing == frozenset()
    with made.make(Limits(memory_bytes=1 << 30, processes=50)) as group:
        (directory,) = (root / "fs" / UNIT).glob("clinvk-task-*")
        assert (directory / "memory.max").read_text() == str(1 << 30)
        assert (directory / "memory.swap.max").read_text() == "0"
        assert (directory / "pids.max").read_text() == "50"
        assert group is not None
        argv = group.entering(["claude", "-p"])
        assert argv[-4:] == (f"{directory}/cgroup.procs", "--", "claude", "-p")
        assert group.exceeded() is None
    assert not directory.exists()


@pytest.mark.parametrize(
    ("file", "content", "reached"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\n", "memory_bytes: 1048576"),
        ("memory.events", "low 0\nhigh 0\nmax 9\noom 0\noom_kill 0\n", None),
        ("pids.events", "max 3\n", "processes: 5"),
        ("pids.events", "max 0\n", None),
    ],
)
def test_the_limit_that_was_reached_is_named(
    root: Path, file: str, content: str, reached: str | None
) -> None:
    with groups(root).make(Limits(memory_bytes=1 << 20, processes=5)) as group:
        (directory,) = (root / "fs" / UNIT).glob("clinvk-task-*")
        (directory / file).write_text(content)
        assert group is not None
        assert group.exceeded() == reached


def test_what_is_left_in_the_group_is_killed_at_once(root: Path) -> None:
    with groups(root).make(Limits(processes=5)) as group:
        (directory,) = (root / "fs" / UNIT).glob("clinvk-task-*")
        (directory / "cgroup.procs").write_text("123456789\n")
        assert group is not None
        killed = directory.with_name("killed")
        (directory / "cgroup.kill").symlink_to(killed)
        assert group.close()
    assert killed.read_text() == "1"


def test_no_limit_needs_no_group(root: Path) -> None:
    with groups(root).make(Limits()) as group:
        assert group is None


def test_the_worker_moves_out_of_a_group_of_its_own(root: Path) -> None:
    unit = root / "fs" / UNIT
    (unit / "cgroup.subtree_control").write_text("")
    (unit / "cgroup.procs").write_text(f"{os.getppid()}\n{os.getpid()}\n")
    groups(root)
    assert (unit / "clinvk-worker" / "cgroup.procs").read_text() == str(os.getpid())
    assert "+" in (unit / "cgroup.subtree_control").read_text()


def test_a_worker_that_is_started_anew_finds_the_group_that_it_moved_out_of(root: Path) -> None:
    leaf = root / "fs" / UNIT / "clinvk-worker"
    leaf.mkdir()
    (leaf / "cgroup.controllers").write_text("memory pids\n")
    (root / "own").write_text(f"0::/{UNIT}/clinvk-worker\n")
    with groups(root).make(Limits(processes=5)):
        assert list((root / "fs" / UNIT).glob("clinvk-task-*"))
        assert not list(leaf.glob("clinvk-task-*"))


def test_a_group_with_processes_of_others_is_left_alone(root: Path) -> None:
    unit = root / "fs" / UNIT
    (unit / "cgroup.subtree_control").write_text("")
    (unit / "cgroup.procs").write_text(f"{os.getpid()}\n1\n")
    assert groups(root).missing == {"memory_bytes", "processes"}
    assert not (unit / "clinvk-worker").exists()
    with groups(root).make(Limits(processes=5)) as group:
        assert group is None


def test_where_there_are_no_controllers_the_limits_are_missing(root: Path) -> None:
    (root / "fs" / UNIT / "cgroup.controllers").write_text("hugetlb\n")
    assert groups(root).missing == {"memory_bytes", "processes"}


def test_groups_of_a_worker_that_was_killed_are_removed(root: Path) -> None:
    unit = root / "fs" / UNIT
    gone, mine = unit / "clinvk-task-999999999-1", unit / f"clinvk-task-{os.getpid()}-7"
    gone.mkdir()
    mine.mkdir()
    groups(root)
    assert not gone.exists()
    assert mine.exists()
