"""The time in the zone of this machine, with the zone's rules for other times of the year.

A CLI that says "try again at 1:21 PM" means this zone: it gets this process's environment.
"""

from __future__ import annotations

import logging
from datetime import datetime, tzinfo
from functools import cache

logger = logging.getLogger(__name__)


def now() -> datetime:
    """Return the time."""
    return datetime.now(_zone())


@cache
def _zone() -> tzinfo | None:
    """Return this machine's zone; its present offset where the zone has no usable name."""
    from tzlocal import get_localzone  # of use only where a CLI runs

    try:
        return get_localzone()
    except (ValueError, OSError, LookupError) as error:
        logger.warning("the time zone of this machine cannot be read: %s", error)
        return datetime.now().astimezone().tzinfo
