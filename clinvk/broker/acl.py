"""The users of a fleet's server, as its access control list: submitters, workers, monitors.

Which commands each may use is read from the store's code (`clinvk/store/used_commands.py`); what
Celery and kombu need beside them is here, as measured with MONITOR. Redis checks the commands of a
script against the user who calls it, so a rule holds for scripts as well, whoever wrote them.

A submitter may read all records, and write its submissions and its requests: no run, result,
lease, message or order. Workers do the rest for it (`clinvk/store/requests.py`).

A worker may do what scripts and Celery do, with the keys of both.

A monitor may read, ask `celery inspect` and receive events. Orders travel the same channel as
questions; workers refuse them (`workers/remote_control.py`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from clinvk.store.keys import key
from clinvk.store.used_commands import (
    READS,
    of_python,
    of_reading_scripts,
    of_script,
    of_scripts,
)

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
SETINFO = "CLIENT SETINFO"
"""What redis-py tells the server of itself; Redis 7.0 has no such command, and refuses its name."""
SETINFO_SINCE = (7, 2)

CONNECTION = {"ACL WHOAMI", "AUTH", "CLIENT ID", SETINFO, "EXEC", "HELLO", "INFO", "MULTI", "PING"}
CONNECTION |= {"SELECT"}
SCRIPTS = {"EVAL", "EVALSHA", "SCRIPT EXISTS", "SCRIPT LOAD"}
BINDINGS = set("DEL EXISTS SADD SMEMBERS SREM TIME ZADD ZRANGEBYSCORE ZREM".split())  # noqa: SIM905
"""What kombu does with its lists of which queue gets what, its own scripts included."""
QUEUES = {"BRPOP", "DEL", "LLEN", "LPUSH", "RPUSH"}
SUBSCRIPTIONS = {"PSUBSCRIBE", "PUNSUBSCRIBE", "SUBSCRIBE", "UNSUBSCRIBE"}
SUBMITTED = {"HSET", "PEXPIRE", "SADD", "UNLINK", "XADD"}
"""What the store's Python writes of a submission and of a request."""


class Role(StrEnum):
    """What a user of the server is for."""

    SUBMITTER = "submitter"
    WORKER = "worker"
    MONITOR = "monitor"


@dataclass(frozen=True, slots=True)
class User:
    """A user of the server. `secret` is a password's SHA-256, or what stands for it."""

    name: str
    role: Role
    secret: str


def hashed(password: str) -> str:
    """Return the SHA-256 of a password, as Redis keeps it."""
    return hashlib.sha256(password.encode()).hexdigest()


def line(user: User, database: int = 0, server_version: tuple[int, ...] = (9,)) -> str:
    """Return the line of a user for a file of users (`aclfile`), or for redis.conf.

    `database` is the one in the broker's URL: names of channels begin with it.
    """
    rules = {
        Role.SUBMITTER: _submitter(user.name),
        Role.WORKER: _worker(database),
        Role.MONITOR: _monitor(database),
    }[user.role]
    text = f"user {user.name} on #{user.secret} resetkeys resetchannels -@all {' '.join(rules)}"
    return text if server_version >= SETINFO_SINCE else re.sub(r" \+client\|setinfo\b", "", text)


def _submitter(name: str) -> Iterable[str]:
    yield f"%R~clinvk:* ~{key('submission', f'{name}:*')}"
    yield f"%W~{key('requests', name)} %W~{key('submitters')}"
    yield from _allowed(_reads() | of_script("record") | SUBMITTED | CONNECTION | SCRIPTS)


def _worker(database: int) -> Iterable[str]:
    yield "~clinvk:* ~clinvk.* ~_kombu.binding* ~*.celery.pidbox* ~celeryev.*"
    yield f"&/{database}.celery.pidbox &/{database}.celeryev/worker.* &/{database}.celeryev/*"
    store = of_python() | of_scripts()
    yield from _allowed(
        store | CONNECTION | SCRIPTS | BINDINGS | QUEUES | SUBSCRIPTIONS | {"PUBLISH"}
    )


def _monitor(database: int) -> Iterable[str]:
    # EVAL asks for the right to write the keys that it names, whatever it does with them: KEDA
    # names those of queues. No command that writes is among these.
    yield f"%R~clinvk:* %R~clinvk.* ~{key('queue', '*')}"
    yield f"&/{database}.celeryev/*"
    yield from _allowed(_reads() | CONNECTION | SCRIPTS | SUBSCRIPTIONS)
    yield f"(~*.reply.celery.pidbox* ~celeryev.* {' '.join(_allowed(QUEUES - {'LPUSH', 'RPUSH'}))})"
    exchanges = " ".join(f"~_kombu.binding*{name}" for name in ("celery.pidbox", "celeryev"))
    yield f"({exchanges} ~_kombu.binding_deadlines {' '.join(_allowed(BINDINGS | SCRIPTS))})"
    yield f"(&/{database}.celery.pidbox +publish)"


def _reads() -> set[str]:
    """Return what everybody reads: by Python, by scripts, and by those of KEDA."""
    return (of_python() & READS) | of_reading_scripts() | {"EXISTS", "TYPE", "SCARD", "HLEN"}


def _allowed(commands: Iterable[str]) -> list[str]:
    return [f"+{command.lower().replace(' ', '|')}" for command in sorted(commands)]
