"""A broker's URL: which ones are valid, and how one is shown without its password."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

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
    """Return a broker URL with its secrets as `***`, fit for messages and logs.

    Secrets are the password, a name that stands alone before the `@`, as tokens do, and options
    such as `?password=`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    rest, mark, query = rest.partition("?")
    login, at, place = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
    if at:
        name, colon, _ = login.partition(":")
        login = f"{name}:{MASK}" if colon else MASK
    return f"{scheme}://{login}{at}{place}{mark}{_masked_query(query)}"


def _masked_query(query: str) -> str:
    if "@" in query.partition("=")[0]:  # the end of a password that has a question mark
        return MASK
    parts = re.split("([&;])", query)
    return "".join(_masked_option(part) for part in parts)


def _masked_option(option: str) -> str:
    name, equals, _ = option.partition("=")
    is_secret = equals and _SECRET_OPTION.search(unquote(name))
    return f"{name}={MASK}" if is_secret else option


def with_login_in_front(url: str) -> str:
    """Return a broker URL whose `?username=` and `?password=` stand before the host instead.

    redis-py reads either; kombu fails where they are options.
    """
    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    login = {name: value for name, value in options if name in _LOGIN}
    if not login:
        return url
    name = parts.username or quote(login.get("username", ""), safe="")
    password = parts.password or quote(login.get("password", ""), safe="")
    rest = urlencode([(name, value) for name, value in options if name not in _LOGIN])
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{place}", query=rest))


_LOGIN = ("username", "password")
_SECRET_OPTION = re.compile("pass|secret|token|credential", re.IGNORECASE)
