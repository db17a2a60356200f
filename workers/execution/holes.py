"""Free a part of a file on its disk while others write on at its end.

A file that is truncated loses what is written between the look at its size and the truncation,
often the very end. A hole (fallocate(2), FALLOC_FL_PUNCH_HOLE) leaves its size and its end alone.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

KEEP_SIZE, PUNCH_HOLE = 1, 2


def punch(fd: int, start: int, end: int) -> bool:
    """Free what is between two places; returns whether this system and file system can."""
    fallocate = _fallocate()
    if fallocate is None:
        return False
    if end <= start:
        return True
    return bool(fallocate(fd, KEEP_SIZE | PUNCH_HOLE, start, end - start) == 0)


@cache
def _fallocate() -> Any:
    """Return the C library's function; None where there is none."""
    if sys.platform != "linux":
        return None
    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function
