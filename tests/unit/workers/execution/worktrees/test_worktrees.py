"""Worktrees of tasks: what is in one, what is recorded of it, what is kept and what is removed."""

from __future__ import annotations

import base64
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.changes import Changes
from clinvk.core.spec import TaskResult, TaskSpec, TaskStatus
from clinvk.core.worker_config import WorkerConfig
from clinvk.git import packs, patches
from clinvk.git.private_repository import PrivateRepository
from clinvk.git.repository import Repository
from clinvk.store.types import Lease
from tests.unit.git.checkouts import git, read_tree, repository
from workers.execution.directory import open_directory
from workers.execution.worktrees.worktree import Worktree
from workers.execution.worktrees.worktrees import WorktreeError, Worktrees
from workers.observers import TaskEnded, TaskHeld

LEASE = Lease("run", 0, 1)
RESULT = TaskResult(index=0, status=TaskStatus.OK, exit_code=0, duration_seconds=1)


class Worker:
    """A worker's worktrees, for tasks whose working directory is that of a checkout."""

    def __init__(self, tmp_path: Path, **config: Any) -> None:
        self.place = tmp_path / "worktrees"
        self.config = WorkerConfig(worktrees_dir=str(self.place), **config)
        self.worktrees = Worktrees(self.config)

    def enter(
        self, workdir: Path, lease: Lease = LEASE, *, resumes: bool = False, **fields: Any
    ) -> Worktree:
        spec = TaskSpec(backend="echo", prompt="x", workspace="worktree", **fields)
        with closing(open_directory(str(workdir), None)) as directory:
            return self.worktrees.enter(spec, directory, lease, str, resumes=resumes)

    def left(self) -> list[str]:
        return sorted(path.name for path in self.place.iterdir()) if self.place.exists() else []


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    files = {"README": "read me\n", "src/a.py": "a = 1\n", ".gitignore": ".env\n*.log\n"}
    return repository(tmp_path / "repo", files)


def files_of(worktree: Worktree) -> list[str]:
    return sorted(map(os.fsdecode, read_tree(Path(worktree.about.top))))


def text(worktree: Worktree, name: str) -> str:
    return Path(worktree.about.top, name).read_text()


def unpacked(changes: Changes, top: Path) -> PrivateRepository:
    """Take the changes into a git directory that borrows from the user's repository."""
    found = Repository.around(str(top))
    assert found is not None
    private = PrivateRepository.create(str(top.parent / "taken"), found)
    assert changes.pack is not None
    packs.take(private, base64.b64decode(changes.pack))
    return private


def test_a_worktree_is_of_its_own(worker: Worker, top: Path) -> None:
    worktree = worker.enter(top / "src")
    inside = Path(worktree.about.top)
    assert worktree.about.workdir == str(inside / "src")
    assert files_of(worktree) == [".gitignore", "README", "src/a.py"]
    assert git(inside, "status", "--porcelain") == ""
    assert git(inside, "rev-parse", "HEAD", "main") == git(top, "rev-parse", "HEAD", "main")
    git(inside, "branch", "mine")
    git(inside, "config", "core.pager", "evil")
    (inside / "README").write_text("changed\n")
    git(inside, "commit", "--quiet", "--all", "--message", "mine")
    assert git(top, "status", "--porcelain") == ""
    assert git(top, "branch", "--format=%(refname)") == "refs/heads/main"


def test_what_is_not_committed_comes_along(worker: Worker, top: Path) -> None:
    (top / "README").write_text("read me again\n")
    (top / "src" / "a.py").unlink()
    (top / "src" / "new.py").write_text("new\n")
    (top / "x.log").write_text("ignored\n")
    git(top, "add", "README")
    before = git(top, "status", "--porcelain")
    worktree = worker.enter(top)
    assert files_of(worktree) == [".gitignore", "README", "src/new.py"]
    assert git(Path(worktree.about.top), "status", "--porcelain").splitlines() == [
        "M README",
        " D src/a.py",
        "?? src/new.py",
    ]
    assert git(top, "status", "--porcelain") == before
    changes = worker.worktrees.changes(worktree)
    assert (changes.changed_files, changes.any, changes.pack) == ([], False, None)


@pytest.mark.parametrize("fields", [{"include_changes": False}, {"ref": "main"}])
def test_what_is_not_committed_can_be_left(
    worker: Worker, top: Path, fields: dict[str, Any]
) -> None:
    (top / "README").write_text("changed\n")
    assert text(worker.enter(top, **fields), "README") == "read me\n"


def test_changes_come_along_to_another_commit(worker: Worker, top: Path) -> None:
    (top / "src" / "b.py").write_text("b\n")
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "--message", "second")
    (top / "README").write_text("changed\n")
    worktree = worker.enter(top, ref="HEAD~1", include_changes=True)
    assert files_of(worktree) == [".gitignore", "README", "src/a.py"]
    assert text(worktree, "README") == "changed\n"
    (top / "src" / "b.py").write_text("c\n")
    with pytest.raises(WorktreeError, match=r"do not go together with HEAD~1 \(src/b.py\)"):
        worker.enter(top, Lease("run", 1, 1), ref="HEAD~1", include_changes=True)
    assert worker.left() == ["run-1-1"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [({"ref": "nowhere"}, "has no commit nowhere"), ({"ref": "--all"}, "has no commit --all")],
)
def test_a_commit_that_is_not_there(
    worker: Worker, top: Path, fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(WorktreeError, match=problem):
        worker.enter(top, **fields)


def test_a_directory_in_no_repository(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(WorktreeError, match="is in no git repository"):
        worker.enter(tmp_path / "plain")


def test_a_repository_without_a_commit(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "--quiet")
    with pytest.raises(WorktreeError, match="has no commit yet"):
        worker.enter(tmp_path / "new")


def test_a_git_directory_of_another_checkout_is_refused(
    worker: Worker, top: Path, tmp_path: Path
) -> None:
    """A file `.git` can name any directory, and so read any repository to a task."""
    (tmp_path / "hostile").mkdir()
    (tmp_path / "hostile" / ".git").write_text(f"gitdir: {top}/.git\n")
    with pytest.raises(WorktreeError, match="names a git directory that is not its own"):
        worker.enter(tmp_path / "hostile")


def test_a_worktree_of_a_linked_worktree(worker: Worker, top: Path, tmp_path: Path) -> None:
    git(top, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    (tmp_path / "linked" / "README").write_text("changed\n")
    assert text(worker.enter(tmp_path / "linked"), "README") == "changed\n"


def test_ignored_files_that_are_asked_for_come_along(worker: Worker, top: Path) -> None:
    (top / ".env").write_text("KEY=1\n")
    (top / "sub").mkdir()
    (top / "sub" / ".env").symlink_to("../.env")
    (top / "x.log").write_text("x")
    assert not Path(worker.enter(top).about.top, ".env").exists()
    (top / ".worktreeinclude").write_text(".env\n!other\n")
    worktree = worker.enter(top, Lease("run", 1, 1))
    assert text(worktree, ".env") == "KEY=1\n"
    assert Path(worktree.about.top, "sub", ".env").is_symlink()
    assert not Path(worktree.about.top, "x.log").exists()
    assert worker.worktrees.changes(worktree).changed_files == []


def test_what_a_task_changed_is_recorded(worker: Worker, top: Path) -> None:
    (top / "notes").write_text("mine\n")
    worktree = worker.enter(top)
    inside = Path(worktree.about.top)
    (inside / "README").write_text("read me\nand me\n")
    (inside / "src" / "a.py").unlink()
    (inside / "caf\udce9.bin").write_bytes(bytes(range(256)))
    (inside / "notes").write_text("yours\n")
    changes = worker.worktrees.changes(worktree)
    assert changes.base == git(top, "rev-parse", "HEAD")
    assert sorted(changes.changed_files) == ["README", "caf\udce9.bin", "notes", "src/a.py"]
    assert (changes.files, changes.insertions, changes.deletions) == (4, 2, 2)
    assert changes.patch is not None
    assert changes.kept is None
    patch = changes.patch.encode("utf-8", "surrogateescape")
    assert len(patch) == changes.patch_bytes
    private = unpacked(changes, top)
    assert patches.apply(private, changes.start, patch, f"{private.path}/scratch") == changes.tree
    assert Changes.from_dict(changes.to_dict()) == changes
    worker.worktrees.saw(TaskEnded(LEASE, RESULT))
    assert worker.left() == []


def test_commits_of_a_task_are_recorded(worker: Worker, top: Path) -> None:
    worktree = worker.enter(top)
    inside = Path(worktree.about.top)
    for name in ("first", "second"):
        (inside / "README").write_text(name)
        git(inside, "commit", "--quiet", "--all", "--message", f"the {name}\n\nwhy")
    (inside / "README").write_text("third")
    changes = worker.worktrees.changes(worktree)
    assert [(each.author, each.message) for each in changes.commits] == [
        ("Ann <ann@example.org>", "the first\n\nwhy"),
        ("Ann <ann@example.org>", "the second\n\nwhy"),
    ]
    assert changes.head == changes.commits[-1].sha == git(inside, "rev-parse", "HEAD")
    private = unpacked(changes, top)
    assert private.git("show", f"{changes.head}:README") == b"second"
    assert private.git("show", f"{changes.tree}:README") == b"third"


def test_commits_that_cannot_be_recorded_keep_the_worktree(worker: Worker, top: Path) -> None:
    worktree = worker.enter(top)
    inside = Path(worktree.about.top)
    git(inside, "checkout", "--quiet", "-b", "aside")
    git(inside, "commit", "--quiet", "--allow-empty", "--message", "aside")
    git(inside, "checkout", "--quiet", "main")
    changes = worker.worktrees.changes(worktree)
    assert worktree.warnings == ["its branch aside has commits that are not recorded"]
    assert changes.kept == worktree.about.top
    worker.worktrees.saw(TaskEnded(LEASE, RESULT))
    assert worker.left() == ["run-1-1"]


def test_objects_of_other_repositories_are_not_recorded(
    worker: Worker, top: Path, tmp_path: Path
) -> None:
    """A task that knows the name of a commit could have it read where it cannot read."""
    other = repository(tmp_path / "other", {"secret": "x"})
    worktree = worker.enter(top)
    git_directory = Path(worktree.about.top, ".git")
    (git_directory / "objects" / "info" / "alternates").write_text(f"{other}/.git/objects\n")
    (git_directory / "HEAD").write_text(git(other, "rev-parse", "HEAD"))
    changes = worker.worktrees.changes(worktree)
    assert (changes.commits, changes.head) == ([], None)
    assert worktree.warnings == ["it changed where git finds objects: no commit is recorded"]


def test_too_many_changes_fail_and_are_kept(tmp_path: Path, top: Path) -> None:
    worker = Worker(tmp_path, changes_bytes=1000)
    worktree = worker.enter(top)
    Path(worktree.about.top, "big").write_bytes(os.urandom(4000))
    with pytest.raises(WorktreeError, match=f"more than 1000.*in {worktree.about.top}") as error:
        worker.worktrees.changes(worktree)
    assert error.value.is_too_large
    worker.worktrees.saw(TaskEnded(LEASE, RESULT))
    assert worker.left() == ["run-1-1"]


def test_nothing_that_the_task_set_is_run(worker: Worker, top: Path, tmp_path: Path) -> None:
    worktree = worker.enter(top)
    inside = Path(worktree.about.top)
    ran = tmp_path / "ran"
    program = f"touch {ran}; cat"
    for name in ("core.fsmonitor", "filter.evil.clean", "filter.evil.process", "diff.external"):
        git(inside, "config", name, program)
    (inside / ".gitattributes").write_text("* filter=evil diff=evil\n")
    (inside / "README").write_text("changed\n")
    assert worker.worktrees.changes(worktree).changed_files == [".gitattributes", "README"]
    assert not ran.exists()


def test_what_set_up_does_is_no_change_of_the_task(worker: Worker, top: Path) -> None:
    worktree = worker.enter(top)
    inside = Path(worktree.about.top)
    (inside / "lock").write_text("1\n")
    worktree.begin()
    (inside / "README").write_text("changed\n")
    changes = worker.worktrees.changes(worktree)
    assert changes.changed_files == ["README"]
    assert unpacked(changes, top).git("show", f"{changes.start}:lock") == b"1\n"


def test_a_session_goes_on_in_its_worktree_and_a_new_start_has_a_fresh_one(
    worker: Worker, top: Path
) -> None:
    worktree = worker.enter(top)
    Path(worktree.about.top, "half").write_text("done")
    worker.worktrees.saw(TaskHeld(LEASE, RESULT, "q", 0, resumes=True))
    again = Worktrees(worker.config)  # the worker was started anew
    worker.worktrees = again
    again.clean_up()
    next_lease = Lease("run", 0, 2)
    resumed = worker.enter(top, next_lease, resumes=True)
    assert (text(resumed, "half"), resumed.is_fresh) == ("done", False)
    again.saw(TaskHeld(next_lease, RESULT, "q", 0, resumes=True))
    fresh = worker.enter(top, Lease("run", 0, 3))
    assert fresh.is_fresh
    assert not Path(fresh.about.top, "half").exists()
    assert worker.left() == ["run-1-3"]
    again.saw(TaskHeld(Lease("run", 0, 3), RESULT, "q", 0))
    assert worker.left() == []
    with pytest.raises(WorktreeError, match="the worktree of its session is gone"):
        worker.enter(top, Lease("run", 0, 4), resumes=True)


def test_without_a_result_the_worktree_goes_with_its_execution(
    worker: Worker, top: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker.enter(top)
    worker.worktrees.leave(LEASE)
    assert worker.left() == []
    assert "what it did in its worktree is dropped" in caplog.text
    worker.worktrees.leave(LEASE)


def killed(worktree: Worktree) -> None:
    """Let a worktree be as a worker leaves it that was killed."""
    worktree.place.close()


def test_what_a_killed_worker_left_is_removed_unless_it_is_in_no_result(
    worker: Worker, top: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leases = [Lease("run", index, 1) for index in range(3)]
    clean, changed, used = (worker.enter(top, lease) for lease in leases)
    Path(changed.about.top, "README").write_text("changed\n")
    killed(clean)
    killed(changed)
    again = Worktrees(worker.config)
    again.clean_up()
    again.clean_up()
    assert worker.left() == ["run-2-1", "run-3-1"]
    assert caplog.text.count(f"a worker was killed while a task worked in {changed.about.top}") == 1
    os.utime(changed.place.path, (0, 0))
    again.clean_up()
    assert worker.left() == ["run-3-1"]
    assert "is removed: nobody took what is in it" in caplog.text
    killed(used)


def test_a_recorded_one_and_a_half_made_one_are_removed(worker: Worker, top: Path) -> None:
    (worker.place / "half").mkdir(parents=True)
    (worker.place / "half" / "lock").touch()
    (worker.place / "not ours").mkdir()
    Worktrees(worker.config).clean_up()
    assert worker.left() == ["not ours"]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"worktrees_count": 1}, "worktrees.max_count is 1"),
        ({"worktrees_bytes": 10}, "worktrees.max_bytes is 10"),
    ],
)
def test_they_are_bounded(tmp_path: Path, top: Path, config: dict[str, Any], problem: str) -> None:
    worker = Worker(tmp_path, **config)
    worker.enter(top)
    with pytest.raises(WorktreeError, match=problem):
        worker.enter(top, Lease("run", 1, 1))


def test_a_full_disk_gets_none(tmp_path: Path, top: Path) -> None:
    with pytest.raises(WorktreeError, match="is nearly full"):
        Worker(tmp_path, spill_reserve_bytes=1 << 60).enter(top)


def test_many_at_once(worker: Worker, top: Path) -> None:
    """Of `git worktree add`, several at once fail for a lock on the repository's settings."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda index: worker.enter(top, Lease("run", index, 1)), range(8)))
    assert {text(each, "README") for each in made} == {"read me\n"}
    for index in range(8):
        worker.worktrees.saw(TaskEnded(Lease("run", index, 1), RESULT))
    assert worker.left() == []


def test_files_that_cannot_be_removed_at_once(worker: Worker, top: Path) -> None:
    worktree = worker.enter(top)
    folder = Path(worktree.about.top, "module")
    folder.mkdir()
    (folder / "file").touch()
    folder.chmod(0o500)
    worker.worktrees.saw(TaskEnded(LEASE, RESULT))
    assert worker.left() == []


def test_a_policy_decides_about_the_whole_repository(worker: Worker, top: Path) -> None:
    asked = []
    spec = TaskSpec(backend="echo", prompt="x", workspace="worktree")

    def refuse(path: str) -> None:
        asked.append(path)
        raise PermissionError(path)

    directory = open_directory(str(top / "src"), None)
    with closing(directory), pytest.raises(WorktreeError):
        worker.worktrees.enter(spec, directory, LEASE, refuse, resumes=False)
    assert asked == [str(top)]
