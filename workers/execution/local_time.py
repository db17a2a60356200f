"""The time in the zone of a command, with the zone's rules for other times of the year.

A CLI that says "try again at 1:21 PM" means the zone of its environment, which is that of this
machine unless the configuration says otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from functools import cache
from zoneinfo import ZoneInfo

logger = logging.getLogger(__name__)


def now(tz: str | None = None, clock: Callable[[], float] = time.time) -> datetime:
    """Return the time that a clock tells, in seconds since the epoch.

    `tz` is the variable TZ of a command, where it is not this process's.
    """
    return datetime.fromtimestamp(clock(), _zone(tz))


@cache
def _zone(tz: str | None) -> tzinfo | None:
    """Return a zone; this machine's present offset where the zone has no usable name."""
    from tzlocal import get_localzone  # of use only where a CLI runs

    try:
        return get_localzone() if tz is None else ZoneInfo(tz.removeprefix(":"))
    except (ValueError, OSError, LookupError) as error:
        logger.warning("the time zone %s cannot be read: %s", tz or "of this machine", error)
        return datetime.now().astimezone().tzinfo
