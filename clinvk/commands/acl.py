"""`clinvk acl`: write the server's users, with their rights, as a file that Redis reads."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from clinvk.broker import acl
from clinvk.broker.acl import NAME_PATTERN, Role, User
from clinvk.core import exit_codes
from clinvk.core.errors import UsageError
from clinvk.core.user_paths import UnknownHomeError, expanded
from clinvk.output.streams import Output, note

OLDEST = (7, 0)


def print_users(
    given: Sequence[str], passwords: str | None, database: int, server_version: str
) -> int:
    """Print a line for each user; without `given` the three roles, and no access for others.

    Raises:
        UsageError: a user, the version or the file of passwords cannot be used.
    """
    version = _version(server_version)
    roles = dict(map(_user, given)) or {role.value: role for role in Role}
    known = None if passwords is None else _passwords(passwords, roles)
    users = [User(name, role, _secret(name, known)) for name, role in roles.items()]
    lines = [] if given else ["user default off"]
    lines += [acl.line(user, database, version) for user in users]
    Output(sys.stdout).write_all(f"{line}\n" for line in lines)
    if known is None:
        note(
            "replace each #SHA256-OF-… by # and the SHA-256 of a password, or use --passwords: "
            "the server refuses the file as it is"
        )
    return exit_codes.OK


def _user(given: str) -> tuple[str, Role]:
    name, _, role = given.partition(":")
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"--user {given}: a name consists of letters and digits, with . _ -")
    if (role or Role.SUBMITTER) not in {*Role}:
        raise UsageError(f"--user {given}: a role is one of {', '.join(Role)}")
    return name, Role(role or Role.SUBMITTER)


def _version(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(\.\d+)*", text):
        raise UsageError(f"--server-version {text}: not a version such as 7.0")
    version = tuple(map(int, text.split(".")))
    if version < OLDEST:
        raise UsageError(f"--server-version {text}: clinvk needs Redis 7.0 or newer, or Valkey")
    return version


def _secret(name: str, passwords: Mapping[str, str] | None) -> str:
    if passwords is None:
        return f"SHA256-OF-{name}"
    return acl.hashed(passwords[name])


def _passwords(given: str, names: Iterable[str]) -> Mapping[str, str]:
    """Read `NAME=PASSWORD` lines; where there is no file, make one with random passwords."""
    try:
        path = expanded(given)
        if not path.exists():
            return _new_passwords(path, names)
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, UnknownHomeError) as error:
        raise UsageError(f"--passwords {given}: {error}") from error
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    found = {name.strip(): password.strip() for name, _, password in pairs}
    if missing := [name for name in names if not found.get(name)]:
        raise UsageError(f"{path} has no line {missing[0]}=PASSWORD")
    return found


def _new_passwords(path: Path, names: Iterable[str]) -> Mapping[str, str]:
    made = {name: secrets.token_hex(32) for name in names}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.writelines(f"{name}={password}\n" for name, password in made.items())
    note(f"wrote new passwords to {path}")
    return made
