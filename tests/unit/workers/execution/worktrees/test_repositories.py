"""Repositories that a worker keeps: fetched when needed, borrowed by worktrees, and removed."""

from __future__ import annotations

import base64
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.spec import TaskSpec
from clinvk.core.worker_config import WorkerConfig
from clinvk.git import packs
from clinvk.git.private_repository import PrivateRepository
from clinvk.git.repository import Repository
from clinvk.git.runner import FOR_EVER, OverdueError, StoppedError, Until
from clinvk.store.types import Lease
from tests import harness
from tests.unit.git.checkouts import git, read_tree, repository
from tests.unit.workers.execution.worktrees.test_worktrees import RESULT
from workers.execution.policy import Policy, PolicyError
from workers.execution.stop_signal import StopSignal
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

    def enter(
        self,
        lease: Lease = LEASE,
        policy: Policy | None = None,
        until: Until = FOR_EVER,
        **fields: Any,
    ) -> Worktree:
        spec = TaskSpec(
            backend="echo", prompt="x", workspace="worktree", **{"repo": self.url, **fields}
        )
        policy = policy or Policy()
        return self.worktrees.enter(
            *(spec, None, lease, str),
            resumes=False,
            accept_repository=policy.check_repository,
            until=until,
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


def test_line_ends_are_as_committed_whatever_the_workers_settings(
    elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text("[core]\n\tautocrlf = true\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    inside = Path(elsewhere.enter().about.top)
    assert (inside / "README").read_bytes() == b"read me\n"
    (inside / "dos").write_bytes(b"1\r\n")
    git(inside, "add", "dos")
    assert git(inside, "cat-file", "-s", ":dos") == "3"


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


class SlowHost:
    """A host that sends half of a pack and then nothing more, until it is `mended`."""

    def __init__(self, folder: Path, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = f"ssh://example.org{top}"
        self.asked = folder / "asked"
        self.mended = folder / "mended"
        program = folder / "ssh"
        program.write_text(
            f"""#!/bin/sh
if [ -e {self.mended} ]; then exec git upload-pack {top}; fi
git upload-pack {top} | (
    dd bs=1 count=3000 2> /dev/null
    echo $$ > {self.asked}.new
    mv {self.asked}.new {self.asked}
    exec sleep 600
)
"""
        )
        program.chmod(0o755)
        monkeypatch.setenv("GIT_SSH_COMMAND", str(program))
        monkeypatch.setenv("GIT_SSH_VARIANT", "simple")

    def is_asked(self) -> bool:
        return self.asked.exists()


@pytest.fixture
def slow(tmp_path: Path, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> SlowHost:
    (elsewhere.top / "noise").write_bytes(os.urandom(20_000))
    elsewhere.commit("noise too")
    return SlowHost(tmp_path, elsewhere.top, monkeypatch)


def ended(pid: str) -> bool:
    return not harness.running(int(pid))


def test_a_fetch_is_stopped_with_all_its_processes_and_the_next_one_works(
    elsewhere: Elsewhere, slow: SlowHost
) -> None:
    with StopSignal() as stop, ThreadPoolExecutor(2) as pool:
        entered = pool.submit(elsewhere.enter, until=Until(stop=stop), repo=slow.url)
        harness.wait_until(slow.is_asked, "half of a pack")
        waiting = pool.submit(
            elsewhere.enter, Lease("other", 0, 1), until=Until(stop=stop), repo=slow.url
        )
        stop.set("canceled")
        for task in (entered, waiting):
            with pytest.raises(StoppedError):
                task.result()
    harness.wait_until(lambda: ended(slow.asked.read_text()), "the end of the host's program")
    assert len(list(elsewhere.place.iterdir())) == 1  # no worktree is left
    slow.mended.touch()
    worktree = elsewhere.enter(repo=slow.url)
    assert git(Path(worktree.about.top), "status", "--porcelain") == ""
    assert (Path(worktree.about.top) / "noise").stat().st_size == 20_000
    assert list(elsewhere.place.glob(".repositories/*/objects/pack/tmp_*")) == []


def test_a_fetch_ends_with_the_time_of_its_task(elsewhere: Elsewhere, slow: SlowHost) -> None:
    with pytest.raises(OverdueError):
        elsewhere.enter(until=Until().within(0.2), repo=slow.url)
    slow.mended.touch()
    elsewhere.enter(repo=slow.url)


def test_a_task_that_waits_for_anothers_fetch_can_be_stopped(
    elsewhere: Elsewhere, slow: SlowHost
) -> None:
    with StopSignal() as first, StopSignal() as second, ThreadPoolExecutor(2) as pool:
        fetching = pool.submit(elsewhere.enter, until=Until(stop=first), repo=slow.url)
        harness.wait_until(slow.is_asked, "half of a pack")
        second.set("canceled")
        with pytest.raises(StoppedError):
            elsewhere.enter(Lease("other", 0, 1), until=Until(stop=second), repo=slow.url)
        assert not fetching.done()
        first.set("canceled")
