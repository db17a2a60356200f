"""The rules of Landlock, and the filter of system calls that closes the network."""

from __future__ import annotations

import pytest

from clinvk.core.network import Network
from tests.unit.workers.execution.sandbox.plans import PRIVATE, plan
from workers.execution.sandbox import landlock, launcher
from workers.execution.sandbox.bubblewrap import Bound
from workers.execution.sandbox.plan import CliFiles

WRITES = landlock.WRITE_FILE | landlock.TRUNCATE | 1 << 8
"""What only a writable directory has; the last one makes files."""


def rights(*bound: Bound, **fields: object) -> dict[str, int]:
    rules = landlock.alone(plan(**fields), bound, 7, 9, "x86_64")
    return dict(rules.paths)


def test_only_what_is_the_tasks_is_writable() -> None:
    found = rights(Bound(5, "/tmp/work", True), cli=CliFiles(settings=("/home/u/.x",)))
    assert found["/proc/self/fd/5"] & WRITES == WRITES
    assert found[PRIVATE.path] & WRITES == WRITES
    assert {path for path, right in found.items() if right & 1 << 8} == {
        "/proc/self/fd/5",
        PRIVATE.path,
    }
    assert found["/usr"] & WRITES == 0
    assert found["/home/u/.x"] & WRITES == 0


def test_a_read_only_directory_is_readable() -> None:
    found = rights(Bound(5, "/tmp/work", False))
    assert found["/proc/self/fd/5"] == landlock.EXECUTE | landlock.READ_FILE | landlock.READ_DIR


def test_credentials_may_be_refreshed_in_place() -> None:
    found = rights(cli=CliFiles(credentials=("/home/u/.codex/auth.json",)))
    assert found["/home/u/.codex/auth.json"] & landlock.TRUNCATE


def test_no_devices_are_made() -> None:
    assert all(
        right & landlock.MAKE_DEVICES == 0 for right in rights(Bound(5, "/w", True)).values()
    )


@pytest.mark.parametrize(
    ("abi", "ports", "size", "net", "scoped"),
    [
        (3, None, 8, 0, 0),
        (4, None, 8, 0, 0),
        (4, (443,), 16, landlock.CONNECT_TCP, 0),
        (6, None, 24, 0, 3),
        (7, (443, 80), 24, landlock.CONNECT_TCP, 3),
    ],
)
def test_only_what_the_kernel_knows_is_asked_of_it(
    abi: int, ports: tuple[int, ...] | None, size: int, net: int, scoped: int
) -> None:
    rules = landlock.around_bubblewrap(Network(ports), abi, 9)
    assert (rules.ruleset_bytes, rules.handled_net, rules.scoped) == (size, net, scoped)
    assert rules.ports == list(ports or ())
    assert rules.handled_fs == 0  # or bubblewrap could not mount


def test_where_landlock_adds_to_bubblewrap() -> None:
    needed = landlock.is_needed_around_bubblewrap
    assert not needed(Network(), 0)
    assert not needed(Network(), 5)
    assert needed(Network((443,)), 5)
    assert needed(Network(), 6)


def test_what_the_launcher_is_told() -> None:
    argv = landlock.launch(landlock.around_bubblewrap(Network((443, 80)), 7, 9))
    assert argv[-2] == landlock.LAUNCHER
    assert launcher.parse(argv[-1]) == {
        "handled": [0, landlock.CONNECT_TCP, 3],
        "ruleset_bytes": [24],
        "ports": [443, 80],
        "seccomp": [],
        "drops_capabilities": [0],
        "status": [9, 1],
    }


SOCKET, IO_URING, GETPID = 41, 425, 39
X86_64, I386 = 0xC000003E, 0x40000003
AF_UNIX, AF_INET, AF_NETLINK = 1, 2, 16


@pytest.mark.parametrize(
    ("architecture", "number", "family", "is_allowed"),
    [
        (X86_64, GETPID, 0, True),
        (X86_64, SOCKET, AF_UNIX, True),
        (X86_64, SOCKET, AF_INET, False),
        (X86_64, SOCKET, AF_NETLINK, False),
        (X86_64, IO_URING, 0, False),
        (X86_64, SOCKET | 0x40000000, AF_INET, False),
        (I386, 359, AF_INET, False),
    ],
)
def test_a_closed_network_has_only_unix_sockets(
    architecture: int, number: int, family: int, is_allowed: bool
) -> None:
    call = {0: number, 4: architecture, 16: family}
    assert _verdict(landlock.no_internet("x86_64"), call) == is_allowed


def _verdict(program: list[tuple[int, int, int, int]], call: dict[int, int]) -> bool:
    """Run a filter as the kernel does; returns whether the call is allowed."""
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == landlock.LOAD:
            accumulator = call[value]
        elif code == landlock.RETURN:
            return value == landlock.ALLOW
        else:
            is_equal = code == landlock.JUMP_EQUAL
            holds = accumulator == value if is_equal else accumulator > value
            at += if_true if holds else if_false


def test_sessions_that_are_kept_are_writable_and_no_others() -> None:
    cli = CliFiles(sessions=("/home/u/.claude/projects",))
    assert not any("kept" in path for path in rights(cli=cli))
    found = rights(cli=cli, kept="/srv/kept/1")
    assert found["/srv/kept/1/0"] & WRITES == WRITES
    assert {path for path in found if path.startswith("/srv")} == {"/srv/kept/1/0"}
