"""The exit code of a command, from that of the sandbox around it."""

from __future__ import annotations

import json
import os
import signal
from contextlib import closing

import pytest

from workers.execution.sandbox.confined import Namespace, Restricted, SandboxFailedError


def code(returncode: int, *said: object) -> int:
    with closing(Namespace()) as namespace:
        for line in said:
            os.write(namespace.status_fd, json.dumps(line).encode() + b"\n")
        return namespace.returncode(returncode)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (0, 0),
        (1, 1),
        (127, 127),
        (128 + signal.SIGKILL, -signal.SIGKILL),
        (128 + signal.SIGTERM, -signal.SIGTERM),
        (128 + signal.SIGSYS, -signal.SIGSYS),
        (173, 173),  # a CLI's own: an HTTP status modulo 256
        (144, 144),
        (255, 255),
    ],
)
def test_signals_are_told_as_without_a_sandbox(outer: int, inner: int) -> None:
    assert code(outer, {"child-pid": 5}, {"exit-code": outer}) == inner


def test_a_command_that_never_started_has_no_exit_code() -> None:
    with pytest.raises(SandboxFailedError, match="bubblewrap could not set up"):
        code(1, {"child-pid": 5})
    with closing(Restricted()) as restricted:
        os.write(restricted.status_fd, b"error Landlock: ruleset\n")
        with pytest.raises(SandboxFailedError, match="Landlock: ruleset"):
            restricted.returncode(125)


def test_an_end_of_bubblewraps_own_is_told_as_it_is() -> None:
    assert code(-9, {"child-pid": 5}) == -9


def test_a_code_of_the_commands_own_is_not_the_launchers() -> None:
    with closing(Restricted()) as restricted:
        assert restricted.returncode(125) == 125
