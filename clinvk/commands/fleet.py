"""Reach the fleet that the configuration or the command line names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from clinvk.core.errors import UsageError
from clinvk.privacy import seclude

if TYPE_CHECKING:
    from clinvk.config.settings import Settings
    from clinvk.runs.celery_client import CeleryClient


@contextmanager
def fleet(settings: Settings, broker: str | None) -> Iterator[CeleryClient]:
    """Give a client of the broker; `broker` is the command line's.

    Raises:
        UsageError: no broker is configured.
        BrokerError: the broker cannot be reached.
    """
    url = required_broker_url(settings, broker)
    seclude()
    from clinvk.runs.celery_client import CeleryClient

    with closing(CeleryClient(url)) as client:
        client.check_server()
        with client.reaching_broker():
            yield client


def required_broker_url(settings: Settings, broker: str | None) -> str:
    """Return the broker's URL; `broker` is the command line's.

    Raises:
        UsageError: none is configured, or the command line's is not valid.
    """
    if url := settings.broker_url(broker):
        return url
    raise UsageError("no broker: use --broker URL, or set broker_url or CLINVK_BROKER_URL")
