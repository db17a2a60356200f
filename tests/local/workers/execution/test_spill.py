"""Files with long outputs: how many are kept, for how long, and what of the disk stays free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workers.execution.spill import DAY_SECONDS, Spill


@pytest.fixture
def spill(tmp_path: Path) -> Spill:
    return Spill(directory=tmp_path / "spill", quota_bytes=1000, reserve_bytes=0)


def unnamed(content: bytes, folder: Path) -> int:
    """A file without a name, with a content."""
    fd = os.open(folder, os.O_RDWR | os.O_TMPFILE, 0o600)
    os.write(fd, content)
    return fd


@pytest.fixture(params=["the same disk", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """An output of 400 bytes, where a command may have written it."""
    content = b"0123456789" * 40
    if request.param == "memory":
        fd = os.memfd_create("output")
        os.write(fd, content)
    else:
        fd = unnamed(content, tmp_path)
    yield fd
    os.close(fd)


def keep(spill: Spill, folder: Path) -> Path:
    """Save a new output of 400 bytes."""
    fd = unnamed(b"x" * 400, folder)
    saved = spill.save(fd, 400)
    os.close(fd)
    assert saved is not None
    return saved.path


def names(spill: Spill) -> set[str]:
    return {path.name for path in spill.directory.iterdir()}


def make_older(path: Path, days: float) -> None:
    at = path.stat().st_mtime - days * DAY_SECONDS
    os.utime(path, (at, at))


def test_an_output_is_kept_whole(spill: Spill, output: int) -> None:
    saved = spill.save(output, 400)
    assert saved is not None
    assert (saved.size, saved.path.read_bytes()) == (400, b"0123456789" * 40)
    assert saved.path.stat().st_mode & 0o777 == 0o600
    assert names(spill) == {saved.path.name}


def test_on_the_same_disk_nothing_is_copied(spill: Spill, tmp_path: Path) -> None:
    fd = unnamed(b"x" * 400, tmp_path)
    saved = spill.save(fd, 400)
    assert saved is not None
    assert saved.path.stat().st_ino == os.fstat(fd).st_ino
    os.close(fd)


def test_the_oldest_go_where_a_new_one_has_no_room(spill: Spill, tmp_path: Path) -> None:
    oldest, older = (keep(spill, tmp_path) for _ in range(2))
    make_older(oldest, 2)
    make_older(older, 1)
    assert names(spill) == {oldest.name, older.name}
    newest = keep(spill, tmp_path)
    assert names(spill) == {older.name, newest.name}


def test_of_an_output_over_the_quota_the_beginning_is_kept(output: int, tmp_path: Path) -> None:
    small = Spill(directory=tmp_path / "spill", quota_bytes=15, reserve_bytes=0)
    saved = small.save(output, 400)
    assert saved is not None
    assert (saved.size, saved.path.read_bytes()) == (15, b"012345678901234")


def test_without_a_quota_nothing_is_kept(output: int, tmp_path: Path) -> None:
    none = Spill(directory=tmp_path / "spill", quota_bytes=0, reserve_bytes=0)
    assert none.save(output, 400) is None
    assert names(none) == set()


def test_a_worker_that_starts_removes_what_is_old_and_nothing_else(
    spill: Spill, tmp_path: Path
) -> None:
    old, new = (keep(spill, tmp_path) for _ in range(2))
    make_older(old, 8)
    of_another = spill.directory / "stdout-notes.txt"
    of_another.write_text("mine")
    make_older(of_another, 100)
    rest_of_a_crash = spill.directory / "stdout-0123abcd.log.part"
    rest_of_a_crash.write_text("half")
    make_older(rest_of_a_crash, 8)
    link = spill.directory / "stdout-0123abce.log"
    link.symlink_to(of_another)
    spill.prepare()
    assert names(spill) == {new.name, of_another.name, link.name}


def test_a_copy_never_touches_the_reserve(tmp_path: Path) -> None:
    full = Spill(directory=tmp_path / "spill", reserve_bytes=1 << 60)
    fd = os.memfd_create("output")
    os.write(fd, b"x" * 400)
    assert full.save(fd, 400) is None
    assert names(full) == set()
    assert full.is_reached(fd)
    assert full.folder() is None
    os.close(fd)


def test_workers_that_share_the_directory_keep_its_quota(spill: Spill, tmp_path: Path) -> None:
    def save(_: int) -> None:
        fd = unnamed(b"x" * 300, tmp_path)
        assert spill.save(fd, 300) is not None
        os.close(fd)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(40)))
    files = list(spill.directory.iterdir())
    assert len(files) == 3
    assert all(path.stat().st_size == 300 for path in files)


def test_a_directory_that_cannot_be_used_is_told_and_costs_no_task(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    spill = Spill(directory=tmp_path / "file", reserve_bytes=0)
    spill.prepare()
    assert "cannot be used" in caplog.text
    assert spill.save(os.memfd_create("x"), 10) is None
