"""Restrict this process with Landlock, then become the command: the program of `landlock`.

    python -I -S launcher.py RULES COMMAND...

RULES are lines of a name and numbers, see `workers.execution.sandbox.landlock.Rules`: JSON would
take as long to load as all the rest. A restriction that cannot
be applied ends this process before the command starts: its message goes to stderr and to
`status_fd`. It imports little, since that would be most of its time, and nothing of clinvk, since
it is run without site-packages.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
RULE_PATH_BENEATH, RULE_NET_PORT = 1, 2
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_SECCOMP = 38, 23, 24, 22
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SECCOMP_MODE_FILTER = 2
FILE_RIGHTS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
"""The rights that a rule on a file may have: execute, write, read, truncate, ioctl."""
FAILED = 125
"""The exit code where the command was not started."""

Rules = dict[str, list[int]]
PATHS: list[tuple[int, str]] = []

_libc = ctypes.CDLL(None, use_errno=True)


def call(what: str, *arguments: object) -> int:
    """Make a system call; raises OSError that says what it was for."""
    result = int(_libc.syscall(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(what: str, *arguments: int) -> None:
    """Set an attribute of this process; raises OSError that says what it was for."""
    if _libc.prctl(*[ctypes.c_ulong(argument) for argument in arguments]) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def restrict(rules: Rules) -> None:
    """Apply the rules to this process and all that it starts."""
    (size,), handled = rules["ruleset_bytes"], [*rules["handled"]]
    structure = struct.pack("QQQ", *handled)[:size]
    ruleset = call("ruleset", CREATE_RULESET, structure, len(structure), 0)
    for rights, path in PATHS:
        allow_path(ruleset, path, rights)
    for port in rules["ports"]:
        rule = struct.pack("QQ", handled[1], port)
        call(f"port {port}", ADD_RULE, ruleset, RULE_NET_PORT, rule, 0)
    call("restriction", RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def allow_path(ruleset: int, path: str, rights: int) -> None:
    """Allow the rights beneath a path; one that does not exist needs none."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= FILE_RIGHTS
        rule = struct.pack("=Qi", rights, fd)
        call(path, ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)


def drop_capabilities() -> None:
    """Leave no capability to the command, and none for a root user's to get back by its start."""
    prctl("ambient capabilities", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if os.geteuid() != 0:
        return
    capability = 0
    while (held := _libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0)) >= 0:
        if held:
            prctl("capabilities", PR_CAPBSET_DROP, capability, 0, 0, 0)
        capability += 1


def filter_calls(numbers: list[int]) -> None:
    """Install a seccomp filter, whose instructions are four numbers each."""
    instructions = [numbers[at : at + 4] for at in range(0, len(numbers), 4)]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(buffer))
    pointer = ctypes.create_string_buffer(head, len(head))
    prctl("seccomp", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(pointer), 0, 0)


def parse(text: str) -> Rules:
    """Read the rules; the paths go to PATHS."""
    rules: Rules = {}
    for part in text.split("\n"):
        name, _, value = part.partition(" ")
        if name == "path":
            rights, _, path = value.partition(" ")
            PATHS.append((int(rights), path))
        else:
            rules[name] = [int(number) for number in value.split()]
    return rules


def main() -> int:
    """Restrict and start; returns only where that failed."""
    rules, command = parse(sys.argv[1]), sys.argv[2:]
    status_fd, is_kept = rules["status"]
    try:
        prctl("no_new_privs", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if rules["drops_capabilities"][0]:
            drop_capabilities()
        restrict(rules)
        if rules["seccomp"]:
            filter_calls(rules["seccomp"])
        os.set_inheritable(status_fd, bool(is_kept))
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        message = f"Landlock: {error.strerror}"
        os.write(status_fd, f"error {message}\n".encode())
        sys.stderr.write(message + "\n")
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
