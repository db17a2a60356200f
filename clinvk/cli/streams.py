"""Standard streams as the rest of the program needs them, whatever the caller did to them."""

from __future__ import annotations

import io
import os
import sys


def open_standard_streams() -> None:
    """Open stdin, stdout and stderr where the caller closed them, and print UTF-8.

    Otherwise the next file or socket that is opened would get the number of a closed stream.
    """
    _open_closed_descriptors()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  (stays open)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # JSON is UTF-8 in every locale; half of a surrogate pair is no reason to stop.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def flush_standard_streams() -> None:
    """Write what is buffered; drop it where nobody reads, or Python would exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_closed_descriptors() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
