"""The broker and the configuration of the worker in this process, and how it got them.

Both hold secrets, and an environment or a command line can be read by whoever may look into /proc.
So whoever starts a worker hands them over otherwise: local mode's supervisor forks a worker that
has them already (`give`); `clinvk worker` writes them to a file that is only in memory, whose
descriptor the worker inherits, reads and closes (`to_descriptor`, `take_from_descriptor`). Where a
user starts a worker (`celery -A workers.app worker`, `python -m workers`) they come from the
variables CLINVK_BROKER_URL and CLINVK_WORKER_CONFIG, which `clinvk.privacy` hides.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

from clinvk.core.worker_config import BROKER_URL, WORKER_CONFIG

_given: dict[str, str] = {}


def give(broker_url: str, config: str | None = None) -> None:
    """Set what the worker in this process, or in one that is forked from it, is told."""
    _given[BROKER_URL] = broker_url
    if config is not None:
        _given[WORKER_CONFIG] = config


def broker_url() -> str | None:
    """Return the URL of the broker; None where there is none."""
    return _value(BROKER_URL)


def config() -> str:
    """Return what `WorkerConfig.load` reads."""
    return _value(WORKER_CONFIG) or "{}"


def _value(name: str) -> str | None:
    return _given.get(name) or os.environ.get(name)


def to_descriptor() -> int:
    """Write both to a file without a name; returns its descriptor, which programs inherit."""
    if sys.platform == "linux":
        fd = os.memfd_create("clinvk-handover", 0)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.set_inheritable(fd, True)
    values = {BROKER_URL: broker_url(), WORKER_CONFIG: config()}
    with open(fd, "w", encoding="utf-8", closefd=False) as stream:
        json.dump(values, stream)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def take_from_descriptor(fd: int) -> None:
    """Read what `to_descriptor` wrote, and close the file, which ends it."""
    with open(fd, encoding="utf-8") as stream:
        _given.update({name: value for name, value in json.load(stream).items() if value})


def environment() -> dict[str, str]:
    """Return our environment without the two variables."""
    return {name: v for name, v in os.environ.items() if name not in {BROKER_URL, WORKER_CONFIG}}
