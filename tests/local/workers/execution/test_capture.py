"""The output of commands while they are still writing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.execution import capture
from workers.execution.capture import Stderr


def test_what_is_written_while_stderr_is_trimmed_is_kept(
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
    assert stderr.trim() == 0
    captured = stderr.captured()
    stderr.close()
    assert (captured.head, captured.size) == (b"xxxthe end", 1007)
