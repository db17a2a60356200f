"""What of this machine's operating system a sandboxed command may read."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from workers.execution.sandbox.plan import SystemFiles

DIRECTORIES = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store")
SETTINGS = (
    "alternatives",
    "crypto-policies",
    "fonts",
    "gitconfig",
    "group",
    "hostname",
    "hosts",
    "ld.so.cache",
    "localtime",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki",
    "protocols",
    "resolv.conf",
    "services",
    "ssl",
)
"""What programs look for in /etc. The rest of it is not visible: it has the machine's secrets,
and the worker's own configuration."""


@cache
def system_files() -> SystemFiles:
    """Look at the root directory, once: its links differ between distributions."""
    links = [(path, str(Path(path).readlink())) for path in DIRECTORIES if os.path.islink(path)]  # noqa: PTH114
    linked = dict(links)
    return SystemFiles(
        directories=tuple(p for p in DIRECTORIES if p not in linked and Path(p).is_dir()),
        links=tuple(links),
        settings=tuple(path for name in SETTINGS if Path(path := f"/etc/{name}").exists()),
    )
