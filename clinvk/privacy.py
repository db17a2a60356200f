"""What other processes can read of this one: its environment, its arguments, its memory.

A task is a process of the same user (and, where clinvk runs as root, of root), so it can look into
`/proc/PID` of the worker, of the client and of all that is between. Two things are done against
that, at the start of each of clinvk's processes:

* The process is made undumpable (prctl(2), PR_SET_DUMPABLE). Then processes of the same user read
  neither its environment nor its memory; root still does.
* What the kernel shows as its environment and arguments, which is the memory that it was started
  with, is overwritten in place: every variable but those that every command gets anyway, and every
  URL among the arguments. The variables themselves stay, elsewhere in memory: `os.environ` is as it
  was, and a program that is started inherits the same.

Linux only. Elsewhere nothing is done.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Sequence

from clinvk.core.child_environment import COMMON, matches

PR_SET_DUMPABLE = 4
SHOWN = (*COMMON, "CLINVK_TASK", "CLINVK_OWNER")
"""Variables that stay to be seen: a worker finds the processes of its tasks by two of them."""
_FILLER = b"*"
_URL = re.compile(rb"(?<=://)[^\0]+")
_ARGUMENTS, _ENVIRONMENT = slice(45, 47), slice(47, 49)
"""Where they begin and end in memory: fields of /proc/PID/stat, counted after its second."""

_is_done = False


def leave_alone() -> None:
    """Hide nothing of this process: it is a user's, who calls clinvk as a library."""
    global _is_done
    _is_done = True


def seclude() -> None:
    """Hide environment, arguments and memory of this process from others."""
    global _is_done
    if _is_done or sys.platform != "linux":
        return
    _is_done = True
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    with contextlib.suppress(OSError, ValueError):  # no /proc
        with open("/proc/self/stat", "rb") as stat:  # noqa: PTH123  (pathlib is not loaded yet)
            fields = stat.read().rpartition(b")")[2].split()
        _overwrite(fields[_ARGUMENTS], hide_urls)
        for name in hidden_names():
            os.putenv(name, os.environb[name])  # a copy of its own
        _overwrite(fields[_ENVIRONMENT], hide_variables)


def _overwrite(span: Sequence[bytes], hide: Callable[[bytes], bytes]) -> None:
    """Replace a part of our memory by what `hide` makes of it, which is of the same length."""
    import ctypes

    start, end = map(int, span)
    if not 0 < start < end:
        return
    before = ctypes.string_at(start, end - start)
    after = hide(before)
    if after != before:
        ctypes.memmove(start, after, len(before))


def hidden_names() -> list[bytes]:
    """Return the names of our variables that are not to be seen."""
    return [name for name in os.environb if not matches(os.fsdecode(name), SHOWN)]


def hide_urls(arguments: bytes) -> bytes:
    """Fill what follows the scheme of each URL; what else is there stays as it is."""
    return _URL.sub(lambda match: _FILLER * len(match[0]), arguments)


def hide_variables(environment: bytes) -> bytes:
    """Fill the values of all variables that are not to be seen."""
    return b"\0".join(map(_hide_variable, environment.split(b"\0")))


def _hide_variable(variable: bytes) -> bytes:
    name, equals, value = variable.partition(b"=")
    if matches(os.fsdecode(name), SHOWN):
        return variable
    return name + equals + _FILLER * len(value)
