"""A server with the users that `clinvk acl` makes."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Any

from clinvk.broker import acl
from clinvk.broker.acl import Role, User
from clinvk.core.worker_config import BROKER_URL
from tests import harness

RUN = "20260102-030405-abcdef01"
QUEUE = "clinvk.echo"
TASKS = '{"backend": "echo", "prompt": "one"}\n{"backend": "echo", "prompt": "two"}\n'
CELERY = [*harness.PYTHON, "-m", "celery", "-A", "workers.app"]


@dataclass(frozen=True)
class Server:
    """A server with a user for each role, and an administrator."""

    port: int
    admin: Any

    def url(self, user: str) -> str:
        return f"redis://{user}:{user}-password@127.0.0.1:{self.port}/0"

    def clinvk(self, user: str, *arguments: str, stdin: str | None = None) -> harness.Completed:
        return harness.clinvk(*arguments, stdin=stdin, env={BROKER_URL: self.url(user)})

    def celery(self, user: str, *arguments: str) -> harness.Completed:
        return harness.clinvk(*arguments, command=CELERY, env={BROKER_URL: self.url(user)})

    def allows(self, user: str, *command: str | int) -> bool:
        return bool(self.admin.execute_command("ACL", "DRYRUN", user, *command) == b"OK")

    def denials(self) -> list[str]:
        """What was refused to anybody, from the server's own log."""
        return [f"{entry['username']}: {entry['object']}" for entry in self.admin.acl_log()]


def users(server_version: tuple[int, ...]) -> list[str]:
    named = [(role.value, role) for role in Role] + [("bob", Role.SUBMITTER)]
    return [
        acl.line(User(name, role, acl.hashed(f"{name}-password")), 0, server_version)
        for name, role in named
    ]


def version_of_server() -> tuple[int, ...]:
    said = subprocess.run([harness.server_program(), "--version"], capture_output=True, text=True)
    return (7, 0) if "server v=7.0" in said.stdout else (8,)
