"""Addresses of git repositories that workers fetch, as tasks name them.

An address says where, never with which rights: those are the worker's own. What is not plainly an
address is refused, since git takes some texts for options, and others for programs (`ext::`).
"""

from __future__ import annotations

import re
from urllib.parse import unquote

LONGEST_CHARS = 2000
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
_PATH = r"[^\0-\x20\x7f]+"
_ADDRESS = re.compile(
    rf"(?:(?P<scheme>https|ssh|git)://(?:(?P<user>{_USER})@)?{_HOST}(?::\d{{1,5}})?/{_PATH}"
    rf"|file:///{_PATH}"
    rf"|{_USER}@{_HOST}:(?![/-]){_PATH})"
)
_PASSWORD = re.compile(r"(?:[a-z+]+://)?[^/@]*:[^/@]*@|https?://[^/]*@")


def problem(url: str) -> str | None:
    """Say what is wrong with an address; None where a worker could fetch from it.

    What it says does not repeat the address, which may have a password.
    """
    if _PASSWORD.match(url):
        return "must have no password and no token: workers use credentials of their own"
    if len(url) > LONGEST_CHARS or not (match := _ADDRESS.fullmatch(url)):
        return (
            "must be the address of a repository: https://HOST/PATH, ssh://[USER@]HOST/PATH, "
            "USER@HOST:PATH, git://HOST/PATH or file:///PATH"
        )
    if match["scheme"] == "git" and match["user"]:
        return "must have no user: git:// knows none"
    if ".." in re.split(r"[/:]", unquote(url)):
        return "must have no .. in its path"
    return None


def fetchable(url: str) -> str | None:
    """Return the address that workers may have of a remote of a checkout; None where they cannot.

    A user's name and password stay here. Paths are those of this machine.
    """
    bare = re.sub(r"^(https://)[^/@]*@", r"\1", url)
    bare = re.sub(r"^(ssh://[^/@:]*):[^/@]*@", r"\1@", bare)
    return None if bare.startswith("file:") or problem(bare) else bare


def name_of(url: str) -> str:
    """Return what a checkout of a repository would be called."""
    last = re.split(r"[/:]", unquote(url).rstrip("/"))[-1].removesuffix(".git")
    return re.sub(r"[^\w.-]", "-", last, flags=re.ASCII).strip(".-") or "repository"
