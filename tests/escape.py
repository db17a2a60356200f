"""A task that leaves a process behind which nothing but its parentage gives away."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests import harness

ESCAPE = r"""
import os, sys, time
word, file = sys.stdin.read().split()
has_begun, begins = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(file, "w") as out:
            out.write(f"{os.getpid()}\n")
        os.close(has_begun)
        os.execve("/bin/sleep", ["sleep", "600"], {})  # which closes the pipe, too
    os._exit(0)
os.wait()
os.close(begins)
os.read(has_begun, 1)
time.sleep(600 if word == "stay" else 0)
"""
"""Its prompt is `stay FILE` or `leave FILE`; the escaped process's id goes into the file."""

COMMAND: Sequence[str] = (sys.executable, "-c", ESCAPE)


def escaped(file: Path) -> int:
    """Wait for the escaped process; returns its id."""

    def read() -> int:
        text = file.read_text() if file.exists() else ""
        return int(text) if text.endswith("\n") else 0

    return int(harness.wait_until(read, "a process to escape"))


def is_gone(pid: int) -> bool:
    return not harness.running(pid)
