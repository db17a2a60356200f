"""The output of commands while they are still writing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.execution import capture
from workers.execution.capture import Stderr, Stdout
from workers.execution.holes import punch
from workers.execution.spill import Spill


def test_of_stderr_nothing_is_lost_where_files_can_have_holes(tmp_path: Path) -> None:
    stderr = Stderr(last_bytes=10, folder=str(tmp_path))
    for _ in range(3):
        os.write(stderr.fd, b"x" * 99_999 + b"\n")
        assert stderr.trim() == stderr.written_bytes
    assert os.fstat(stderr.fd).st_blocks < 100
    captured = stderr.captured()
    stderr.close()
    assert (captured.head, captured.size) == (b"xxxxxxxxx\n", 300_000)


def test_what_is_written_while_stderr_is_emptied_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = Stderr(last_bytes=10, folder=str(tmp_path))
    os.write(stderr.fd, b"x" * 1000)
    read = capture._read

    def read_slowly(fd: int, start: int, length: int) -> bytes:
        """Read, while the command writes its last words."""
        found = read(fd, start, length)
        monkeypatch.setattr(capture, "_read", read)
        os.write(stderr.fd, b"the end")
        return found

    monkeypatch.setattr(capture, "_read", read_slowly)
    monkeypatch.setattr(capture, "punch", lambda *_: False)
    assert stderr.trim() == 0
    captured = stderr.captured()
    stderr.close()
    assert (captured.head, captured.size) == (b"xxxthe end", 1007)


def stdout(tmp_path: Path, output_bytes: int = 10, spill_bytes: int = 100) -> Stdout:
    spill = Spill(directory=tmp_path, reserve_bytes=0)
    return Stdout(output_bytes, spill_bytes, spill, str(tmp_path))


def test_what_comes_after_the_limit_of_a_file_is_read(tmp_path: Path) -> None:
    output, read = stdout(tmp_path), b""
    for number in range(100):
        os.write(output.fd, f"{number:09}\n".encode())
        read += b"".join(output.unread())
        assert output.trim() <= 100
    os.write(output.fd, b"the end")
    read += b"".join(output.rest())
    captured = output.captured()
    output.close()
    assert read == b"".join(b"%09d\n" % number for number in range(100)) + b"the end"
    assert (captured.size, captured.saved_bytes) == (1007, 100)
    assert captured.head == read[:10]


def test_what_is_not_read_yet_waits_beyond_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "LOOK_BYTES", 64)
    monkeypatch.setattr(capture, "BACKLOG_BYTES", 500)
    output = stdout(tmp_path)
    os.write(output.fd, bytes(range(250)))
    assert b"".join(output.unread()) == bytes(range(64))
    output.trim()
    assert b"".join(output.unread()) == bytes(range(64, 128))
    os.write(output.fd, b"x" * 500)
    output.trim()  # of a flood, what is too much for the disk
    assert output.written_bytes == 750
    assert b"".join(output.rest()) == b""
    os.write(output.fd, b"goes on")
    assert b"".join(output.rest()) == b"goes on"
    assert output.captured().size == 757
    output.close()


def test_what_is_dropped_leaves_the_disk(tmp_path: Path) -> None:
    output = stdout(tmp_path, spill_bytes=1 << 20)
    for _ in range(32):
        os.write(output.fd, b"x" * (1 << 20))
        assert sum(map(len, output.unread())) == 1 << 20
        assert output.trim() == 1 << 20
    assert os.fstat(output.fd).st_blocks * 512 <= 2 << 20
    assert output.captured().size == 32 << 20
    output.close()


@pytest.mark.parametrize("can_punch", [True, False])
def test_what_is_written_while_stdout_is_trimmed_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, can_punch: bool
) -> None:
    """Where a file system has no holes, what comes at that very moment is lost, and no more."""
    output = stdout(tmp_path)

    def write_and_punch(*arguments: int) -> bool:
        os.write(output.fd, b"meanwhile")
        return can_punch and punch(*arguments)

    monkeypatch.setattr(capture, "punch", write_and_punch)
    os.write(output.fd, b"x" * 250)
    read = b"".join(output.unread())
    output.trim()
    os.write(output.fd, b"the end")
    read += b"".join(output.rest())
    assert read == b"x" * 250 + (b"meanwhile" if can_punch else b"") + b"the end"
    output.close()


def test_an_output_that_nobody_reads_is_kept_within_its_limit(tmp_path: Path) -> None:
    output = stdout(tmp_path)
    os.write(output.fd, b"x" * 250)
    assert output.trim() == 100
    output.close()
