"""A plan for tests, of which each names what it is about."""

from __future__ import annotations

from typing import Any

from clinvk.core.network import Network
from workers.execution.sandbox.plan import CliFiles, Plan, PrivateDirectory, SystemFiles

PRIVATE = PrivateDirectory("/tmp/clinvk-tasks-x/1")


def plan(**fields: Any) -> Plan:
    """Return a plan in which only these fields are special."""
    usual: dict[str, Any] = {
        "mode": "workspace",
        "workdir": "/tmp/work",
        "home": "/home/u",
        "private": PRIVATE,
        "system": SystemFiles(directories=("/usr",), links=(("/bin", "usr/bin"),)),
        "cli": CliFiles(),
        "network": Network(),
    }
    return Plan(**usual | fields)
