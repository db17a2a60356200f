"""Where results are kept by their fingerprints: on the broker, or in a directory of this user's.

A private server lives as long as its run, so results that outlive it are in files, beside the
records of local runs. The workers of a fleet share what is on the broker; submitters who may not
act for themselves cannot write there (`clinvk/broker/acl.py`).
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Protocol

from clinvk.core.user_paths import make_directory, matching
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.failure_detector import ANSWER_SECONDS
from clinvk.store.store import Store

DAY_SECONDS = 86_400.0
CLEAN_SECONDS = 3600.0
"""How often to look for what is too old or too much."""
_CLEANED = "cleaned"


class Index(Protocol):
    """Results by fingerprint."""

    def find(self, fingerprint: str) -> bytes | None:
        """Return what is kept; None where there is nothing, or it is too old.

        Raises:
            OSError, redis.RedisError: it cannot be read.
        """

    def keep(self, fingerprint: str, result: bytes) -> None:
        """Keep a result, instead of one that was there.

        Raises:
            OSError, redis.RedisError: it cannot be kept.
        """


class BrokerIndex:
    """What is on the broker; it goes by itself."""

    def __init__(self, store: Store, keep_days: float) -> None:
        self._store = store
        self._lifetime_ms = int(keep_days * DAY_SECONDS * 1000)

    def find(self, fingerprint: str) -> bytes | None:
        """Return what is kept."""
        return self._store.reusable(fingerprint)

    def keep(self, fingerprint: str, result: bytes) -> None:
        """Keep a result."""
        self._store.keep_reusable(fingerprint, result, self._lifetime_ms)


class DirectoryIndex:
    """A file for each result; those of `keep_bytes` at most stay, the latest."""

    def __init__(self, directory: Path, keep_days: float, keep_bytes: int) -> None:
        self._directory = directory
        self._keep_seconds = keep_days * DAY_SECONDS
        self._keep_bytes = keep_bytes

    def find(self, fingerprint: str) -> bytes | None:
        """Return what is kept."""
        try:
            with self._path(fingerprint).open("rb") as file:
                age_seconds = time.time() - os.fstat(file.fileno()).st_mtime
                return file.read() if age_seconds <= self._keep_seconds else None
        except FileNotFoundError:
            return None

    def keep(self, fingerprint: str, result: bytes) -> None:
        """Keep a result, whole or not at all."""
        path = self._path(fingerprint)
        make_directory(path.parent, 0o700)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}")
        try:
            with open(temporary, "xb", opener=_private) as file:
                file.write(result)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        self._clean_sometimes()

    def _path(self, fingerprint: str) -> Path:
        return self._directory / fingerprint[:2] / fingerprint

    def _clean_sometimes(self) -> None:
        """Remove what is too old or too much, now and then."""
        marker = self._directory / _CLEANED
        with contextlib.suppress(OSError):
            if time.time() - marker.stat().st_mtime < CLEAN_SECONDS:
                return
        with contextlib.suppress(OSError):
            marker.touch(mode=0o600)
            self._clean()

    def _clean(self) -> None:
        found = [(about.st_mtime, about.st_size, path) for path, about in _files(self._directory)]
        total = 0
        for mtime, size, path in sorted(found, reverse=True):
            total += size
            if total > self._keep_bytes or time.time() - mtime > self._keep_seconds:
                with contextlib.suppress(OSError):
                    path.unlink()


def _files(directory: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in matching(directory, "??/*"):
        with contextlib.suppress(OSError):
            found.append((path, path.stat()))
    return found


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def open_index(config: WorkerConfig, broker_url: str) -> Index:
    """Return the index of a worker's results."""
    if config.reuse_dir:
        return DirectoryIndex(Path(config.reuse_dir), config.reuse_keep_days, config.reuse_bytes)
    return BrokerIndex(Store.connect(broker_url, ANSWER_SECONDS), config.reuse_keep_days)
