"""What of this machine's operating system a sandboxed command may read."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from workers.execution.sandbox.plan import SystemFiles

DIRECTORIES = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store")
SETTINGS = (
    "alternatives",
    "bash.bashrc",
    "bashrc",
    "ca-certificates",
    "crypto-policies",
    "fonts",
    "gitattributes",
    "gitconfig",
    "group",
    "host.conf",
    "hostname",
    "hosts",
    "inputrc",
    "java",
    "ld.so.cache",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki",
    "profile",
    "profile.d",
    "protocols",
    "resolv.conf",
    "services",
    "ssl",
    "static",
    "terminfo",
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
