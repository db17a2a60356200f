"""Celery's connection and AMQP class, which show a broker's URL without its secrets.

Celery prints the URL in its banner and whenever it connects. It leaves out a password before the
`@`, and shows a token in the place of the user's name, and every option behind a `?`.
"""

from __future__ import annotations

from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection

from clinvk.core.broker_url import MASK, mask_password


class MaskedConnection(Connection):
    """A connection whose URL is fit for a log."""

    def as_uri(self, include_password: Any = False, mask: Any = MASK, *more: Any) -> str:
        """Return its URL."""
        url = str(super().as_uri(include_password, mask, *more))
        if include_password:
            return url
        if self.userid and not self.password:  # a token, behind which kombu put a password's mask
            scheme, separator, rest = url.partition("://")
            url = f"{scheme}{separator}{MASK}@{rest.rpartition('@')[2]}"
        return mask_password(url)


class MaskedAMQP(AMQP):  # type: ignore[misc]
    """Makes such connections."""

    Connection = MaskedConnection
