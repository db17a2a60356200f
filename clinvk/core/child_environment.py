"""Which variables a process that runs other people's prompts gets: an allow-list of patterns.

A worker's environment holds the keys of all CLIs of its machine, its user's tokens and the broker's
password. A CLI gets what every program needs, what its backend names, and what the configuration
adds.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

OWN_PREFIX = "CLINVK_"
"""clinvk's own settings, the broker's password among them, are no command's business."""

_BASICS = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ")
_FILES = ("TMPDIR", "XDG_*")
_TERMINAL = ("TERM", "COLORTERM", "NO_COLOR")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE")
_TOOLS = (
    *("NVM_DIR", "NVM_BIN", "VOLTA_HOME", "PYENV_ROOT", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("ASDF_DIR", "ASDF_DATA_DIR", "JAVA_HOME", "GOPATH", "GOROOT", "CARGO_HOME", "RUSTUP_HOME"),
)
"""Where compilers and interpreters are."""

COMMON = (
    *(*_BASICS, *_FILES, *_TERMINAL),
    *(*_PROXIES, *(name.lower() for name in _PROXIES)),
    *(*_CERTIFICATES, *_TOOLS),
)
"""What every command gets. No key and no token has such a name."""

_OFF = frozenset({"", "0", "false"})


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a variable's name fits one of the shell-style patterns."""
    return any(_fits(name, pattern) for pattern in patterns)


def _fits(name: str, pattern: str) -> bool:
    # Nearly all are names or beginnings; to compile an expression for each takes milliseconds.
    if pattern.isidentifier():
        return name == pattern
    if pattern[:-1].isidentifier() and pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return fnmatch.fnmatchcase(name, pattern)


def passed(environment: Mapping[str, str], patterns: Sequence[str]) -> dict[str, str]:
    """Return the variables that a command gets: the common ones, and those of `patterns`."""
    allowed = (*COMMON, *patterns)
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(OWN_PREFIX) and matches(name, allowed)
    }


def conditional(
    environment: Mapping[str, str], patterns: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Return the patterns of those variables, the keys of `patterns`, that are switched on."""
    return tuple(
        pattern
        for name, more in patterns.items()
        if environment.get(name, "").lower() not in _OFF
        for pattern in more
    )
