"""A broker's URL: which ones are valid, and how one is shown without its password."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

SCHEMES = ("redis", "rediss", "redis+socket", "unix", "socket")
MASK = "***"
"""What is shown in place of a secret, of a URL or of an environment variable."""


def broker_problem(url: str) -> str | None:
    """Return what is wrong with a URL, or None. The text does not quote it: it may be a secret."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        return "must be a URL like redis://host:6379/0, rediss://… or redis+socket:///path"
    if scheme in {"redis", "rediss"}:
        try:
            _ = urlsplit(url).port
        except ValueError:
            return "must have a number as its port (percent-encode / : @ in a password)"
    elif not rest.startswith("/"):
        return "must have an absolute path to a socket"
    return None


def mask_password(url: str) -> str:
    """Return a broker URL with its password as `***`, fit for messages and logs."""
    return re.sub(r"(://[^:/@]*:)[^/]*@", rf"\1{MASK}@", url)
