"""Repositories that a worker keeps: fetched when needed, borrowed by worktrees, and removed."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.spec import TaskSpec
from clinvk.core.worker_config import WorkerConfig
from clinvk.git import packs
from clinvk.git.private_repository import PrivateRepository
from clinvk.git.repository import Repository
from clinvk.store.types import Lease
from tests.unit.git.checkouts import git, read_tree, repository
from tests.unit.workers.execution.worktrees.test_worktrees import RESULT
from workers.execution.policy import Policy, PolicyError
from workers.execution.worktrees.worktree import Worktree
from workers.execution.worktrees.worktrees import WorktreeError, Worktrees
from workers.observers import TaskEnded

LEASE = Lease("run", 0, 1)


class Elsewhere:
    """A repository elsewhere, and a worker that has no checkout of it."""

    def __init__(self, tmp_path: Path) -> None:
        self.top = repository(tmp_path / "app", {"README": "read me\n", "src/a.py": "a = 1\n"})
        self.url = f"file://{self.top}"
        self.place = tmp_path / "worktrees"
        self.worktrees = Worktrees(WorkerConfig(worktrees_dir=str(self.place)))

    def commit(self, name: str) -> str:
        (self.top / name).write_text(name)
        git(self.top, "add", "--all")
        git(self.top, "commit", "--quiet", "--message", name)
        return git(self.top, "rev-parse", "HEAD")

    def enter(self, lease: Lease = LEASE, policy: Policy | None = None, **fields: Any) -> Worktree:
        spec = TaskSpec(
            backend="echo", prompt="x", workspace="worktree", **{"repo": self.url, **fields}
        )
        policy = policy or Policy()
        return self.worktrees.enter(
            spec, None, lease, str, resumes=False, accept_repository=policy.check_repository
        )

    def kept(self) -> list[str]:
        folder = self.place / ".repositories"
        return [path.name for path in folder.iterdir() if path.is_dir()]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    return Elsewhere(tmp_path)


def test_a_worktree_of_a_repository_elsewhere(elsewhere: Elsewhere) -> None:
    git(elsewhere.top, "tag", "v1")
    worktree = elsewhere.enter(workdir="src")
    inside = Path(worktree.about.top)
    assert inside.name == "app"
    assert worktree.about.workdir == str(inside / "src")
    assert sorted(read_tree(inside)) == [b"README", b"src/a.py"]
    assert git(inside, "status", "--porcelain") == ""
    wanted = git(elsewhere.top, "rev-parse", "HEAD")
    assert git(inside, "rev-parse", "HEAD", "origin/main", "v1").split() == [wanted] * 3
    (inside / "README").write_text("changed\n")
    git(inside, "commit", "--quiet", "--all", "--message", "mine")
    changes = elsewhere.worktrees.changes(worktree)
    assert (changes.base, changes.changed_files) == (wanted, ["README"])
    assert [commit.message for commit in changes.commits] == ["mine"]
    found = Repository.around(str(elsewhere.top))
    assert found is not None
    assert changes.pack is not None
    private = PrivateRepository.create(str(elsewhere.top.parent / "taken"), found)
    packs.take(private, base64.b64decode(changes.pack))  # whoever has the repository can take them
    elsewhere.worktrees.saw(TaskEnded(LEASE, RESULT))
    assert [path.name for path in elsewhere.place.iterdir()] == [".repositories"]


def test_refs(elsewhere: Elsewhere) -> None:
    first = git(elsewhere.top, "rev-parse", "HEAD")
    git(elsewhere.top, "branch", "old")
    second = elsewhere.commit("second")
    git(elsewhere.top, "update-ref", "refs/pull/7/head", first)
    wanted = {None: second, "old": first, "refs/heads/old": first, first: first}
    wanted |= {"main~1": first, "refs/pull/7/head": first}
    for number, (ref, commit) in enumerate(wanted.items()):
        assert elsewhere.enter(Lease("run", number, 1), ref=ref).about.base == commit
    with pytest.raises(WorktreeError, match="has no commit nowhere"):
        elsewhere.enter(Lease("run", 9, 1), ref="nowhere")


def test_tasks_of_a_run_begin_alike_and_the_next_run_finds_what_is_new(
    elsewhere: Elsewhere,
) -> None:
    first = elsewhere.enter().about.base
    second = elsewhere.commit("second")
    assert elsewhere.enter(Lease("run", 1, 1)).about.base == first
    assert elsewhere.enter(Lease("later", 0, 1)).about.base == second
    assert len(elsewhere.kept()) == 1
    elsewhere.top.rename(elsewhere.top.with_name("away"))
    assert elsewhere.enter(Lease("again", 0, 1), ref=first).about.base == first


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"repo": "ext::sh -c id"}, "must be the address"),
        ({"repo": "file:///nonexistent/app"}, "nonexistent"),
        ({"workdir": "../.."}, "must be a directory in the repository"),
        ({"workdir": "/etc"}, "must be a directory in the repository"),
        ({"workdir": "out"}, "out is no directory"),
        ({"workdir": "README"}, "README is no directory"),
    ],
)
def test_what_cannot_be(elsewhere: Elsewhere, fields: dict[str, Any], said: str) -> None:
    (elsewhere.top / "out").symlink_to("/tmp")
    elsewhere.commit("link")
    with pytest.raises(WorktreeError, match=said):
        elsewhere.enter(**fields)
    assert [path.name for path in elsewhere.place.glob("*")] in ([], [".repositories"])


def test_what_a_killed_worker_left_is_no_hindrance(elsewhere: Elsewhere) -> None:
    elsewhere.enter()
    (kept,) = (elsewhere.place / ".repositories").glob("*/")
    (kept / "packed-refs.lock").touch()
    (kept / "objects/pack/tmp_pack_x").touch()
    second = elsewhere.commit("second")
    assert elsewhere.enter(Lease("later", 0, 1)).about.base == second
    (kept / "clinvk").unlink()  # it was killed while it made it
    assert elsewhere.enter(Lease("last", 0, 1)).about.base == second


def test_what_git_must_not_check_out_is_not_fetched(elsewhere: Elsewhere) -> None:
    blob = git(elsewhere.top, "hash-object", "-w", "README")
    tree = elsewhere.top.parent / "tree"
    tree.write_bytes(b"100644 .git\0" + bytes.fromhex(blob))
    wanted = ("hash-object", "-t", "tree", "-w", "--literally", str(tree))
    commit = git(elsewhere.top, "commit-tree", "-m", "evil", git(elsewhere.top, *wanted))
    git(elsewhere.top, "update-ref", "refs/heads/evil", commit)
    with pytest.raises(WorktreeError, match="no worktree can be made"):
        elsewhere.enter(ref="evil")


def test_what_nobody_uses_is_removed(elsewhere: Elsewhere) -> None:
    elsewhere.enter()
    (kept,) = (elsewhere.place / ".repositories").glob("*/")
    os.utime(kept / "clinvk", (0, 0))
    elsewhere.worktrees.clean_up()
    assert elsewhere.kept() == [kept.name]  # a worktree borrows from it
    elsewhere.worktrees.saw(TaskEnded(LEASE, RESULT))
    elsewhere.worktrees.clean_up()
    assert elsewhere.kept() == []


@pytest.mark.parametrize(
    ("policy", "url", "is_accepted"),
    [
        (Policy(), "https://example.org/a", True),
        (Policy(), "file:///srv/a", True),
        (Policy(), "git://example.org/a", False),
        (Policy(repos=["git://example.org/*"]), "git://example.org/a", True),
        (Policy(repos=["https://example.org/*"]), "https://example.com/a", False),
        (Policy(repos=[]), "https://example.org/a", False),
        (Policy(workdir_roots=["/srv"]), "file:///srv/a", False),
        (Policy(max_sandbox_mode="workspace"), "https://example.org/a", False),
        (Policy(max_turns=3), "https://example.org/a", True),
    ],
)
def test_policies(policy: Policy, url: str, is_accepted: bool) -> None:
    if is_accepted:
        policy.check_repository(url)
    else:
        with pytest.raises(PolicyError, match=r"repos: "):
            policy.check_repository(url)
