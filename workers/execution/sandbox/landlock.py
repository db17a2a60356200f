"""Landlock: the rules for a plan, and the command line of the launcher that applies them. Pure.

The kernel's interface has versions (`abi`): 1 and 2 know files, 3 truncation, 4 TCP ports, 6
signals and abstract sockets. A right that a version does not know is not restricted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from clinvk.core.network import Network
from workers.execution.sandbox.bubblewrap import Bound
from workers.execution.sandbox.plan import Plan

LAUNCHER = str(Path(__file__).with_name("launcher.py"))
PYTHON = (sys.executable, "-I", "-S")

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE = 1 << 13, 1 << 14
ALL_FILES = (1 << 13) - 1
"""What version 1 knows: reading, writing, making and removing."""
CONNECT_TCP = 1 << 1
SCOPE_SOCKETS, SCOPE_SIGNALS = 1 << 0, 1 << 1
MAKE_DEVICES = 1 << 6 | 1 << 11

LEAST_ABI = 3
"""Earlier versions let every file be emptied."""
NETWORK_ABI = 4
SCOPE_ABI = 6

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
FAILED = 125
"""The exit code of the launcher where the command was not started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the launcher is told.

    `paths` has the rights beneath each path. `ruleset_bytes` is how much of the ruleset's
    structure the kernel's version knows. `seccomp` is a filter's program. `status_fd` is where the
    launcher writes why it failed; with `keeps_status_fd` the command has it, too.
    """

    handled_fs: int = 0
    handled_net: int = 0
    scoped: int = 0
    ruleset_bytes: int = 8
    paths: list[tuple[str, int]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    seccomp: list[tuple[int, int, int, int]] = field(default_factory=list)
    drops_capabilities: bool = False
    status_fd: int = -1
    keeps_status_fd: bool = False


def launch(rules: Rules) -> tuple[str, ...]:
    """Return the launcher's command line, up to where the command's own begins."""
    numbers = {
        "handled": (rules.handled_fs, rules.handled_net, rules.scoped),
        "ruleset_bytes": (rules.ruleset_bytes,),
        "ports": rules.ports,
        "seccomp": [number for instruction in rules.seccomp for number in instruction],
        "drops_capabilities": (rules.drops_capabilities,),
        "status": (rules.status_fd, rules.keeps_status_fd),
    }
    lines = [f"{name} {' '.join(str(int(n)) for n in found)}" for name, found in numbers.items()]
    lines += [f"path {rights} {path}" for path, rights in rules.paths if "\n" not in path]
    return (*PYTHON, LAUNCHER, "\n".join(lines))


def is_needed_around_bubblewrap(network: Network, abi: int) -> bool:
    """Whether Landlock adds anything to bubblewrap."""
    return abi >= SCOPE_ABI or (abi >= NETWORK_ABI and network.ports is not None)


def around_bubblewrap(network: Network, abi: int, status_fd: int) -> Rules:
    """Return the rules for bubblewrap itself: ports and abstract sockets, no files."""
    return replace(_beyond_files(network, abi), status_fd=status_fd, keeps_status_fd=True)


def alone(plan: Plan, bound: Iterable[Bound], abi: int, status_fd: int, architecture: str) -> Rules:
    """Return the rules where Landlock is all there is.

    Raises:
        KeyError: the network is to be off, and this architecture is not known.
    """
    handled = ALL_FILES | REFER | TRUNCATE
    return replace(
        _beyond_files(plan.network, abi),
        handled_fs=handled,
        paths=list(_paths(plan, bound, handled & ~MAKE_DEVICES)),
        seccomp=no_internet(architecture) if plan.network.is_off else [],
        drops_capabilities=True,
        status_fd=status_fd,
    )


def _beyond_files(network: Network, abi: int) -> Rules:
    limits_ports = abi >= NETWORK_ABI and network.ports is not None
    is_scoped = abi >= SCOPE_ABI
    return Rules(
        handled_net=CONNECT_TCP if limits_ports else 0,
        ports=list(network.ports or ()) if limits_ports else [],
        scoped=SCOPE_SOCKETS | SCOPE_SIGNALS if is_scoped else 0,
        ruleset_bytes=24 if is_scoped else 16 if limits_ports else 8,
    )


def _paths(plan: Plan, bound: Iterable[Bound], write: int) -> Iterator[tuple[str, int]]:
    read = EXECUTE | READ_FILE | READ_DIR
    for path in (*plan.system.directories, *plan.system.settings, "/proc"):
        yield path, read
    for path in (*plan.cli.readable, *plan.cli.settings):
        yield path, read
    for path in plan.cli.credentials:
        yield path, READ_FILE | WRITE_FILE | TRUNCATE
    for path in DEVICES:
        yield path, READ_FILE | WRITE_FILE
    yield plan.private.path, write
    for _, kept in plan.kept_sessions():
        yield kept, write
    for mount in bound:  # by its descriptor: the path may lead elsewhere by now
        yield f"/proc/self/fd/{mount.fd}", write if mount.writable else read


LOAD, JUMP_EQUAL, JUMP_GREATER, RETURN = 0x20, 0x15, 0x25, 0x06
NUMBER_AT, ARCHITECTURE_AT, FIRST_ARGUMENT_AT = 0, 4, 16
ALLOW, DENY = 0x7FFF0000, 0x00050000 | 1  # EPERM
ARCHITECTURES = {
    # The audit number, socket(2), io_uring_setup(2), and the first number of another interface.
    "x86_64": (0xC000003E, 41, 425, 0x40000000),
    "aarch64": (0xC00000B7, 198, 425, 0x40000000),
}
AF_UNIX = 1


def no_internet(architecture: str) -> list[tuple[int, int, int, int]]:
    """Return a seccomp filter that lets only unix sockets be made.

    Landlock has no rule for UDP. Calls of another architecture, and io_uring, which makes sockets
    without the call, are refused.

    Raises:
        KeyError: the numbers of this architecture are not known.
    """
    audit, socket, io_uring, foreign = ARCHITECTURES[architecture]
    return [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (JUMP_EQUAL, 0, 7, audit),
        (LOAD, 0, 0, NUMBER_AT),
        (JUMP_GREATER, 5, 0, foreign - 1),
        (JUMP_EQUAL, 4, 0, io_uring),
        (JUMP_EQUAL, 0, 2, socket),
        (LOAD, 0, 0, FIRST_ARGUMENT_AT),
        (JUMP_EQUAL, 0, 1, AF_UNIX),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, DENY),
    ]
