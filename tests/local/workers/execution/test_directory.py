"""A working directory stays the one that was checked, whatever happens to its path."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from workers.execution import directory
from workers.execution.directory import Directory, OutsideError, open_directory
from workers.execution.policy import Policy, PolicyError

SWAP = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
one, other = (path.encode() for path in sys.argv[1:])
print("swapping", flush=True)
while not libc.renameat2(-100, one, -100, other, 2):  # RENAME_EXCHANGE
    pass
"""
OPENS = 500
STARTS = 50


@pytest.fixture(params=["openat2", "walk"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with directories; on a kernel that has openat2, and on one that has not."""
    if request.param == "walk":

        def unknown(*_: Any) -> int:
            ctypes.set_errno(errno.ENOSYS)
            return -1

        monkeypatch.setattr(directory, "_call_openat2", unknown)
    for name in ("root/a/deep", "root/target", "outside"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "root/a/file").touch()
    (tmp_path / "root/link").symlink_to(tmp_path / "root/a")
    (tmp_path / "root/out").symlink_to(tmp_path / "outside")
    return (tmp_path / "root").resolve()


def inode(fd: int) -> int:
    return os.fstat(fd).st_ino


def entered(opened: Directory) -> str:
    """Where a command that is started in it is."""
    started = subprocess.run(
        ["/bin/pwd"], cwd=opened.start_path, capture_output=True, text=True, check=True
    )
    return started.stdout.strip()


@pytest.mark.parametrize("name", ["", "a", "a/deep"])
def test_a_directory_below_the_root_is_entered(root: Path, name: str) -> None:
    with closing(open_directory(str(root / name), str(root))) as opened:
        assert entered(opened) == str(root / name)


@pytest.mark.parametrize(
    ("name", "error"), [("none", FileNotFoundError), ("a/file", NotADirectoryError)]
)
def test_what_is_no_directory_cannot_be_opened(root: Path, name: str, error: type[OSError]) -> None:
    with pytest.raises(error):
        open_directory(str(root / name), str(root))


def test_a_link_that_leads_out_is_refused(root: Path) -> None:
    with pytest.raises(OutsideError):
        open_directory(str(root / "out"), str(root))


def test_a_link_that_stays_inside_works(root: Path) -> None:
    policy = Policy(workdir_roots=[str(root)])
    with closing(policy.open(policy.directory(str(root / "link/deep")))) as opened:
        assert entered(opened) == str(root / "a/deep")


def test_a_directory_that_is_moved_away_after_it_was_opened_is_still_the_one(root: Path) -> None:
    with closing(open_directory(str(root / "a"), str(root))) as opened:
        (root / "a").rename(root / "moved")
        (root / "a").symlink_to(root.parent / "outside")
        assert entered(opened) == str(root / "moved")


def test_nothing_stays_open(root: Path) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    for name in ("a", "out", "none", "a/file"):
        with suppress(OutsideError, OSError):
            open_directory(str(root / name), str(root)).close()
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Two names are exchanged all the time."""
    process = subprocess.Popen(
        [sys.executable, "-c", SWAP, str(one), str(other)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"swapping\n"
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_no_swap_leads_out_of_the_root(root: Path) -> None:
    policy = Policy(workdir_roots=[str(root)])
    name, outside = root / "target", inode(os.open(root / "out", os.O_PATH))
    refused = inside = 0
    with swapping(name, root / "out"):
        # Both have to have happened: on a busy machine the names may stay as they are for long.
        while refused + inside < OPENS or not (refused and inside):
            try:
                with closing(policy.open(policy.directory(str(name)))) as opened:
                    assert inode(opened.fd) != outside
                    inside += 1
            except (PolicyError, OSError):
                refused += 1


def test_no_command_starts_outside_the_root(root: Path) -> None:
    policy = Policy(workdir_roots=[str(root)])
    where = set()
    with swapping(root / "target", root / "out"):
        started = 0
        while started < STARTS:
            try:
                with closing(policy.open(policy.directory(str(root / "target")))) as opened:
                    where.add(entered(opened))
                    started += 1
            except (PolicyError, OSError):
                continue
    assert where <= {str(root / "target"), str(root / "out")}
