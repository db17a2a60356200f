"""A checkout that workers do not have: shipped by the client, and made anew by a worker."""

from __future__ import annotations

import base64
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.errors import UsageError, WireError
from clinvk.core.shipment import Shipment, name_of_piece
from clinvk.core.spec import TaskSpec
from clinvk.core.worker_config import WorkerConfig
from clinvk.git import given, user_checkout
from clinvk.git.private_repository import PrivateRepository, setting
from clinvk.git.repository import Repository
from clinvk.runs.shipping import Shipping
from clinvk.store.store import Store
from clinvk.store.types import Lease
from tests.unit.git.checkouts import git, read_tree, repository
from workers.execution.policy import Policy, PolicyError
from workers.execution.worktrees.worktree import Worktree
from workers.execution.worktrees.worktrees import WorktreeError, Worktrees

KEEP_SECONDS = 3600.0
MOST_BYTES = 1 << 20
FILES = {"README": "read me\n", "src/a.py": "a = 1\n", ".gitignore": ".env\n*.log\n"}


class Parties:
    """A client with a checkout, and workers that have none."""

    def __init__(self, tmp_path: Path, store: Store) -> None:
        self.folder = tmp_path
        self.top = repository(tmp_path / "app", FILES)
        self.store = store
        self.number = 0

    def ship(self, most_bytes: int = MOST_BYTES, **fields: Any) -> TaskSpec:
        fields = {"workdir": str(self.top), **fields}
        spec = TaskSpec(backend="echo", prompt="x", workspace="worktree", **fields)
        return Shipping(self.store, KEEP_SECONDS, most_bytes).shipped(spec)

    def enter(self, spec: TaskSpec, worker: str = "w", policy: Policy | None = None) -> Worktree:
        config = WorkerConfig(worktrees_dir=str(self.folder / worker))
        worktrees = Worktrees(config)
        worktrees.shipped_by(self.store)
        self.number += 1
        lease = Lease("run", self.number, 1)
        accept = (policy or Policy()).check_repository
        return worktrees.enter(spec, None, lease, str, resumes=False, accept_repository=accept)

    def sent_bytes(self) -> int:
        pieces = self.store.redis.keys("clinvk:submission::piece:*")
        return sum(len(self.store.redis.hget(piece, "content")) for piece in pieces)

    def shipment(self, spec: TaskSpec) -> Shipment:
        return Shipment.from_wire(self.store.piece("", spec.shipped or "") or b"")

    def commit(self, *names: str) -> str:
        for name in names:
            (self.top / name).write_text(f"{name}\n" * 20)
        git(self.top, "add", "--all")
        git(self.top, "commit", "--quiet", "--message", "more")
        return git(self.top, "rev-parse", "HEAD")

    def has_remote(self, monkeypatch: pytest.MonkeyPatch, url: str) -> Path:
        """Give the checkout a remote, which workers reach as their own git says."""
        remote = self.folder / "remote" / "app"
        git(self.top, "clone", "--quiet", "--bare", str(self.top), str(remote))
        git(self.top, "remote", "add", "origin", str(remote))
        git(self.top, "fetch", "--quiet", "origin")
        git(self.top, "config", "remote.origin.url", url)
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        lines = f'[url "file://{self.folder}/remote/"]\n\tinsteadOf = https://example.org/\n'
        (home / ".gitconfig").write_text(lines)
        monkeypatch.setenv("HOME", str(home))
        return remote

    def push(self, remote: Path) -> None:
        git(self.top, "push", "--quiet", str(remote), "main")
        git(self.top, "update-ref", "refs/remotes/origin/main", "main")


@pytest.fixture
def parties(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Parties:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Parties(tmp_path, store)


def there(worktree: Worktree) -> dict[bytes, tuple[str, bytes]]:
    return read_tree(Path(worktree.about.top))


def test_a_checkout_that_workers_do_not_have(parties: Parties) -> None:
    top = parties.top
    (top / "README").write_text("changed\n")
    (top / "src/a.py").unlink()
    (top / "new\udce9").write_bytes(b"\r\n\0")
    (top / "link").symlink_to("nowhere")
    (top / "run").write_text("#!/bin/sh\n")
    (top / "run").chmod(0o755)
    (top / "x.log").write_text("ignored, and not wanted\n")
    (top / ".env").write_text("A=1\n")
    (top / ".worktreeinclude").write_text(".env\n")
    (top / ".git/info/exclude").write_text("*.bin\n")
    (top / "x.bin").write_text("not wanted\n")
    before = git(top, "status", "--porcelain"), git(top, "count-objects")
    spec = parties.ship()
    assert (git(top, "status", "--porcelain"), git(top, "count-objects")) == before
    worktree = parties.enter(spec)
    files = read_tree(top)
    del files[b"x.log"], files[b"x.bin"]
    assert there(worktree) == files
    inside = Path(worktree.about.top)
    assert git(inside, "status", "--porcelain") == before[0]
    assert worktree.about.base == git(top, "rev-parse", "HEAD") == git(inside, "rev-parse", "HEAD")
    (inside / "x.bin").write_text("not to be seen\n")
    assert git(inside, "status", "--porcelain") == before[0]


def test_the_next_run_sends_only_what_is_new(parties: Parties) -> None:
    for number in range(20):
        (parties.top / f"big{number}").write_bytes(os.urandom(10_000))
    (parties.top / "untracked").write_bytes(os.urandom(10_000))
    parties.commit()
    (parties.top / "untracked2").write_bytes(os.urandom(10_000))
    first = parties.ship()
    whole = parties.sent_bytes()
    assert parties.ship() == first
    assert parties.sent_bytes() == whole
    (parties.top / "README").write_text("again\n")
    (parties.top / "untracked2").write_text("and this")
    second = parties.ship()
    assert parties.sent_bytes() - whole < whole / 100
    for worker in ("w", "w", "other"):  # one that has what is before, one that has nothing
        assert there(parties.enter(second, worker)) == read_tree(parties.top)
    shutil.rmtree(parties.folder / ".clinvk")
    (parties.top / "README").write_text("and again\n")
    assert there(parties.enter(parties.ship())) == read_tree(parties.top)


def test_what_a_remote_has_is_fetched_there(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (parties.top / f"big{number}").write_bytes(os.urandom(10_000))
    parties.commit()
    remote = parties.has_remote(monkeypatch, "https://ann:s3cret@example.org/app")
    own = parties.commit("mine")
    (parties.top / "README").write_text("not committed\n")
    spec = parties.ship(workdir=str(parties.top / "src"))
    shipment = parties.shipment(spec)
    assert shipment.url == "https://example.org/app"
    assert shipment.needs == [git(remote, "rev-parse", "main")]
    assert parties.sent_bytes() < 5000
    worktree = parties.enter(spec)
    assert there(worktree) == read_tree(parties.top)
    inside = Path(worktree.about.top)
    assert worktree.about.workdir == str(inside / "src")
    assert git(inside, "rev-parse", "HEAD") == own
    assert git(inside, "rev-parse", "origin/main") == git(remote, "rev-parse", "main")
    with pytest.raises(PolicyError, match="repos: "):
        parties.enter(spec, policy=Policy(repos=["https://example.com/*"]))
    parties.push(remote)
    (parties.top / "README").write_text("not committed either\n")
    later = parties.ship()
    assert own in parties.shipment(later).needs
    assert there(parties.enter(later, "other")) == read_tree(parties.top)


def test_commits_that_the_remote_has_lost(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = parties.has_remote(monkeypatch, "https://example.org/app")
    parties.commit("second")
    parties.push(remote)
    spec = parties.ship()
    git(remote, "update-ref", "refs/heads/main", "main~1")
    git(remote, "gc", "--quiet", "--prune=now")
    with pytest.raises(WorktreeError, match="does not have the commits"):
        parties.enter(spec)


def test_a_shallow_clone(parties: Parties) -> None:
    parties.commit("second")
    clone = parties.folder / "clone"
    git(parties.folder, "clone", "--quiet", "--depth=1", f"file://{parties.top}", str(clone))
    parties.top = clone
    (clone / "README").write_text("changed\n")
    worktree = parties.enter(parties.ship())
    assert there(worktree) == read_tree(clone)
    assert git(Path(worktree.about.top), "log", "--oneline").count("\n") == 0
    parties.commit("third")
    worktree = parties.enter(parties.ship())
    assert git(Path(worktree.about.top), "log", "--format=%s") == "more\nmore"


def test_a_history_that_is_too_long_is_left_out(
    parties: Parties, caplog: pytest.LogCaptureFixture
) -> None:
    (parties.top / "old").write_bytes(os.urandom(100_000))
    parties.commit()
    (parties.top / "old").unlink()
    parties.commit("second")
    with caplog.at_level(logging.WARNING):
        worktree = parties.enter(parties.ship(50_000))
    assert "its history is too long" in caplog.text
    assert there(worktree) == read_tree(parties.top)
    assert git(Path(worktree.about.top), "log", "--format=%s") == "more"
    parties.commit("third")
    worktree = parties.enter(parties.ship(50_000))
    assert git(Path(worktree.about.top), "log", "--format=%s") == "more\nmore"


def test_too_much_is_not_sent(parties: Parties) -> None:
    (parties.top / "big").write_bytes(os.urandom(100_000))
    with pytest.raises(UsageError, match=r"too large .* worktrees.ship_bytes is 50000"):
        parties.ship(50_000)
    (parties.top / ".gitignore").write_text("big\n")
    assert there(parties.enter(parties.ship(50_000)))


def test_refs(parties: Parties) -> None:
    first = git(parties.top, "rev-parse", "HEAD")
    parties.commit("second")
    (parties.top / "README").write_text("changed\n")
    old = parties.enter(parties.ship(ref="main~1"))
    assert old.about.base == first
    assert there(old)[b"README"] == ("file", b"read me\n")
    carried = parties.enter(parties.ship(ref="main~1", include_changes=True))
    assert there(carried)[b"README"] == ("file", b"changed\n")
    assert b"second" not in there(carried)
    with pytest.raises(UsageError, match="has no commit nowhere"):
        parties.ship(ref="nowhere")


def test_what_is_not_shipped(parties: Parties) -> None:
    nowhere = str(parties.folder / "nowhere")
    assert parties.ship(workdir=nowhere).shipped is None  # the workers may have it
    assert parties.ship(workdir=str(parties.folder)).shipped is None
    assert parties.ship(0).shipped is None
    assert parties.ship(repo="https://example.org/a").shipped is None


def test_what_is_gone_or_forged_is_not_used(parties: Parties) -> None:
    spec = parties.ship()
    (pack,) = parties.shipment(spec).packs
    content = parties.store.piece("", pack[0])
    assert content is not None
    parties.store.redis.hset(f"clinvk:submission::piece:{pack[0]}", "content", content + b"x")
    for _ in range(2):
        with pytest.raises(WorktreeError, match="not in the store any more"):
            parties.enter(spec)
    parties.store.redis.set(f"clinvk:submission::piece:{spec.shipped}", "x", px=9000)
    with pytest.raises(WorktreeError, match="not in the store any more"):
        parties.enter(spec)


@pytest.mark.parametrize(
    "change",
    [
        {"base": "HEAD"},
        {"base": "--all"},
        {"repository": "../x"},
        {"packs": [["x"]]},
        {"packs": [["0" * 64] * 3000]},
        {"needs": ["refs/heads/main"]},
        {"top": 1},
        {"excludes": "a" * (1 << 17)},
        {"line_ends": {"core.fsmonitor": "touch x"}},
        {"line_ends": {"core.eol": "crlf\n[core]\n\tfsmonitor = x"}},
        {"unheard": "of"},
    ],
)
def test_forged_shipments(parties: Parties, change: dict[str, Any]) -> None:
    body = {**json.loads(parties.shipment(parties.ship()).to_wire()), **change}
    with pytest.raises(WireError):
        Shipment.from_wire(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "ext::sh -c id"}, "must be the address"),
        ({"tree": "1" * 40}, "not complete"),
        ({"top": "/elsewhere"}, "must be a directory in the repository"),
        ({"packs": []}, "not complete"),
    ],
)
def test_shipments_that_do_not_fit(parties: Parties, change: dict[str, Any], said: str) -> None:
    spec = parties.ship()
    body = {**json.loads(parties.shipment(spec).to_wire()), **change}
    (name,) = parties.store.put_pieces([json.dumps(body).encode()], 1000)
    forged = TaskSpec(
        backend="echo", prompt="x", workspace="worktree", workdir=spec.workdir, shipped=name
    )
    with pytest.raises(WorktreeError, match=said):
        parties.enter(forged)


def test_the_tree_is_the_one_that_a_checkout_here_would_give(parties: Parties) -> None:
    (parties.top / "README").write_text("changed\n")
    shipment = parties.shipment(parties.ship())
    found = Repository.around(str(parties.top))
    assert found is not None
    private = PrivateRepository.create(str(parties.folder / "private"), found)
    wanted = given.trees(private, found, shipment.base, "HEAD", with_changes=True)[0]
    assert shipment.tree == wanted
    assert name_of_piece(shipment.to_wire()) == parties.ship().shipped


def apply_back(parties: Parties, worktree: Worktree) -> None:
    """Bring what was changed in a worktree into the checkout, as `clinvk apply` does."""
    changes = worktree.changes(MOST_BYTES)
    trees = user_checkout.Trees(start=changes.start, end=changes.tree)
    with user_checkout.at(str(parties.top)) as checkout:
        checkout.take(base64.b64decode(changes.pack or ""), changes.base, trees)
        merged = checkout.merged(checkout.now, trees)
        assert merged.conflicts == []
        checkout.write(merged.tree)


UNIX: dict[str, str] = {}
DOS = {"core.autocrlf": "true"}
DOS_TEXTS = {"core.eol": "crlf"}


@pytest.mark.parametrize(
    ("here", "elsewhere"),
    [(DOS, UNIX), (DOS_TEXTS, UNIX), (UNIX, DOS), ({"core.autocrlf": "input"}, DOS_TEXTS)],
)
def test_files_have_the_line_ends_of_the_checkout_whatever_the_workers_settings(
    parties: Parties, here: dict[str, str], elsewhere: dict[str, str]
) -> None:
    top, settings = parties.top, parties.folder / ".gitconfig"
    (top / ".gitattributes").write_text("text/* text\n")
    (top / "text").mkdir()
    for place in ("", "text/"):
        (top / f"{place}unix").write_bytes(b"1\n2\n")
        (top / f"{place}changed").write_bytes(b"1\n2\n")
        (top / f"{place}dos").write_bytes(b"1\r\n2\r\n")
    parties.commit()  # with line ends as they are, but for what is text
    for name, value in here.items():
        git(top, "config", name, value)
    git(top, "rm", "--quiet", "-r", "--cached", ".")
    git(top, "reset", "--quiet", "--hard")  # the files are as a clone would have them
    for place in ("", "text/"):
        with (top / f"{place}changed").open("ab") as file:
            file.write(b"3\r\n" if b"\r\n" in (top / f"{place}changed").read_bytes() else b"3\n")
    spec = parties.ship()
    settings.write_text("".join(setting(*pair) for pair in elsewhere.items()))
    worktree = parties.enter(spec)
    assert there(worktree) == read_tree(top)
    inside = Path(worktree.about.top)
    assert git(inside, "status", "--porcelain").splitlines() == [
        *("M changed", " M text/changed")  # the first line is stripped
    ]
    for name in ("unix", "dos", "text/unix", "text/dos", "text/changed"):
        with (inside / name).open("ab") as file:
            file.write(b"4\r\n" if b"\r\n" in (inside / name).read_bytes() else b"4\n")
    settings.unlink()
    apply_back(parties, worktree)
    assert read_tree(top) == there(worktree)
