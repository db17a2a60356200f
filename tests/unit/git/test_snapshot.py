"""What a snapshot takes of a checkout, and that nothing of it is run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from clinvk.git import snapshot
from clinvk.git.private_repository import PrivateRepository, copy_file
from clinvk.git.repository import Repository
from tests.unit.git.checkouts import git, read_tree, repository


class Checkout:
    def __init__(self, top: Path) -> None:
        self.top = top
        found = Repository.around(str(top))
        assert found is not None
        self.private = PrivateRepository.create(str(top.parent / "private"), found)
        self.index = f"{self.private.path}/index"
        copy_file(found.index, self.index)

    def take(self) -> snapshot.Snapshot:
        return snapshot.take(self.private, str(self.top), self.index)

    def files(self) -> dict[str, bytes]:
        """The files of a snapshot, as they come out of it."""
        out = self.top.parent / "out"
        out.mkdir()
        self.private.check_out(self.take().tree, str(out), f"{self.private.path}/fresh")
        return {os.fsdecode(path): content for path, (_, content) in read_tree(out).items()}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    files = {"README": "read me\n", "src/a.py": "a\n", ".gitignore": "*.log\n"}
    return Checkout(repository(tmp_path / "repo", files))


def test_nothing_has_changed(checkout: Checkout) -> None:
    assert checkout.take() == snapshot.Snapshot(git(checkout.top, "rev-parse", "HEAD^{tree}"))


def test_a_directory_that_became_a_link_to_one_with_the_same_names(checkout: Checkout) -> None:
    (checkout.top / "src").rename(checkout.top / "lib")
    (checkout.top / "lib" / "a.py").write_text("another one\n")
    (checkout.top / "src").symlink_to("lib")
    assert checkout.files() == {
        ".gitignore": b"*.log\n",
        "README": b"read me\n",
        "lib/a.py": b"another one\n",
        "src": b"lib",
    }


def test_ignored_files_are_left(checkout: Checkout) -> None:
    (checkout.top / ".git" / "info" / "exclude").write_text("*.mine\n")
    again = Checkout(checkout.top)
    for name in ("x.log", "x.mine", "x.new"):
        (checkout.top / name).write_text(name)
    assert sorted(again.files()) == [".gitignore", "README", "src/a.py", "x.new"]


def test_what_the_user_always_ignores_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text(".DS_Store\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    checkout = Checkout(repository(tmp_path / "repo"))
    (checkout.top / ".DS_Store").write_text("x")
    assert list(checkout.files()) == ["README"]


def test_a_file_becomes_a_directory_and_a_directory_a_link(checkout: Checkout) -> None:
    (checkout.top / "README").unlink()
    (checkout.top / "README").mkdir()
    (checkout.top / "README" / "inner").write_text("x")
    shutil.rmtree(checkout.top / "src")
    (checkout.top / "src").symlink_to("README")
    files = checkout.files()
    assert (files["README/inner"], files["src"]) == (b"x", b"README")


def test_files_of_a_new_repository_inside_are_taken(checkout: Checkout) -> None:
    """`git add` would take a pointer to a commit that nobody else has, and no file."""
    inner = repository(checkout.top / "app", {"main.js": "js\n"})
    repository(inner / "deep" / "er", {"x": "x\n"})
    (checkout.top / "empty").mkdir()
    git(checkout.top / "empty", "init", "--quiet")
    (checkout.top / "empty" / "file").write_text("y")
    taken = checkout.take()
    assert taken.nested == ["app", "empty"]
    files = checkout.files()
    assert [files[name] for name in ("app/main.js", "app/deep/er/x", "empty/file")] == [
        b"js\n",
        b"x\n",
        b"y",
    ]


def test_what_has_no_place_in_a_tree_is_told(checkout: Checkout) -> None:
    (checkout.top / "README").unlink()
    os.mkfifo(checkout.top / "README")
    commit = git(checkout.top, "rev-parse", "HEAD")
    git(checkout.top, "update-index", "--add", "--cacheinfo", f"160000,{commit},lib")
    copy_file(str(checkout.top / ".git" / "index"), checkout.index)
    (checkout.top / "lib").mkdir()
    (checkout.top / "lib" / "lost").write_text("x")
    assert checkout.take().left_out == [
        "README is neither a file nor a link",
        "lib is a submodule's: its files are not taken",
    ]


def test_nothing_that_the_checkout_names_is_run(checkout: Checkout) -> None:
    """Hooks, filters and the file monitor of a repository, and of one inside of it."""
    ran = checkout.top.parent / "ran"
    program = checkout.top.parent / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> {ran}\ncat\n")
    program.chmod(0o755)
    inner = repository(checkout.top / "lib", {"x": "x\n"})
    git(checkout.top, "add", "lib")
    git(checkout.top, "commit", "--quiet", "--message", "a submodule")
    copy_file(str(checkout.top / ".git" / "index"), checkout.index)
    for top in (checkout.top, inner):
        (top / ".gitattributes").write_text("* filter=evil\n")
        for name in ("clean", "smudge", "process"):
            git(top, "config", f"filter.evil.{name}", str(program))
        git(top, "config", "core.fsmonitor", str(program))
        git(top, "config", "core.hooksPath", str(checkout.top.parent))
    for name in ("post-index-change", "post-checkout", "pre-commit"):
        shutil.copy(program, checkout.top.parent / name)
    (checkout.top / ".gitmodules").write_text(
        '[submodule "lib"]\n\tpath = lib\n\turl = x\n\tignore = none\n'
    )
    (inner / "x").write_text("changed\n")
    (checkout.top / "README").write_text("changed\n")
    ran.unlink(missing_ok=True)
    assert checkout.files()["README"] == b"changed\n"
    assert not ran.exists()


def test_a_copy_of_an_index_is_as_old_as_the_index(checkout: Checkout) -> None:
    """What has changed since is told by that, where clocks are too coarse to tell it."""
    index = checkout.top / ".git" / "index"
    os.utime(index, ns=(10**18, 10**18))
    found = Repository.around(str(checkout.top))
    assert found is not None
    checkout.private.copy_index(found, "HEAD", checkout.index)
    assert Path(checkout.index).stat().st_mtime_ns == 10**18
