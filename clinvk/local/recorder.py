"""What the local supervisor does for the record of its run, from its beginning to its end."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import redis

from clinvk.local.records import Record, Summary, interrupted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clinvk.store.store import Store

SMALL_BYTES = 64 << 10
"""A record of this length stays as it was written. Of a longer one the server writes a snapshot
when the run has ended, which is a fraction of it."""
FOLLOWERS_SECONDS = 5.0
"""How long a server stays for those who follow its run from other terminals and read its end."""
FLUSHED_AFTER_SECONDS = 1.0
"""A run that took longer than this waits for the disk at its end; a shorter one costs little."""
POLL_SECONDS = 0.005


class RunRecorder:
    """Keeps the summary of a run, sees when the run has ended, and leaves a small record.

    Attributes:
        run_id: the run.
        has_ended: whether the run has ended.
        incomplete: why not all of the run is in its record, if so.
    """

    def __init__(self, record: Record, socket_directory: str, queues: Sequence[str]) -> None:
        self._record = record
        self.run_id = record.run_id
        self._socket_directory = socket_directory
        self._queues = queues
        self._last: Summary | None = None
        self._started_at = time.monotonic()
        self._is_empty = False
        self._flushed_bytes = 0
        self.has_ended = False
        self.incomplete: str | None = None

    def look(self, store: Store) -> None:
        """Write down how far the run is, if that has changed.

        Raises:
            redis.RedisError: the server does not answer.
        """
        self._go_on_without_disk(store)
        if time.monotonic() - self._started_at > FLUSHED_AFTER_SECONDS:
            self._flush()
        newest = store.runs(1)
        if not newest:
            return  # it is not submitted yet
        self.has_ended = newest[0].ended_ms is not None
        ledger = store.ledger(newest[0].run_id)
        self._write(
            Summary(newest[0], self._socket_directory, self._queues, self.incomplete, ledger)
        )

    def _flush(self) -> None:
        """Have the disk take what was appended, if something was: see `server.argv`."""
        with contextlib.suppress(OSError):
            if (size_bytes := self._record.aof_bytes()) != self._flushed_bytes:
                flush(self._record)
                self._flushed_bytes = size_bytes

    def _write(self, summary: Summary) -> None:
        if summary != self._last:
            with contextlib.suppress(OSError):  # the disk is full: the next look tries again
                self._record.write_summary(summary)
                self._last = summary

    def _go_on_without_disk(self, store: Store) -> None:
        """Where the server cannot write, let the run go on without: it serves nobody otherwise."""
        about: dict[str, Any] = store.redis.info("persistence")
        if about.get("aof_enabled") and about.get("aof_last_write_status") != "ok":
            store.redis.config_set("appendonly", "no")
            self.incomplete = "its disk was full, or failed, while it went on"

    def end(self, store: Store) -> bool:
        """Write the last summary; returns whether the server has written a snapshot for `close`.

        Called when nothing of the run is running any more, while the server still is, which is to
        be ended at once after it: who follows the run and comes later would find no server.

        Raises:
            redis.RedisError: the server does not answer.
            OSError: the record cannot be read or written.
        """
        self.look(store)
        if self._last is None:
            self._is_empty = not store.runs(1)
            return False
        if not self.has_ended:
            self._write(interrupted_summary(self._last))
        is_small = self._record.aof_bytes() <= SMALL_BYTES
        is_enough = self.incomplete is None and (is_small or not self.has_ended)
        has_snapshot = not is_enough and self._save(store)
        self._wait_for_followers(store)
        return has_snapshot

    def _save(self, store: Store) -> bool:
        with contextlib.closing(store.unhurried()) as client:
            try:
                client.save()
            except redis.ResponseError:  # no room for it
                return False
        self.incomplete = None
        assert self._last is not None
        self._write(replace(self._last, incomplete=None))
        return True

    def _wait_for_followers(self, store: Store) -> None:
        give_up_at = time.monotonic() + FOLLOWERS_SECONDS
        while self.has_ended and store.others() and time.monotonic() < give_up_at:
            time.sleep(POLL_SECONDS)

    def close(self, *, has_snapshot: bool) -> None:
        """Tidy the record up once the server has ended; one of a run that never was is removed."""
        with contextlib.suppress(OSError):
            if self._is_empty or not (self._last or self._record.has_summary()):
                self._record.discard()
            elif has_snapshot:
                self._record.keep_snapshot()
            elif time.monotonic() - self._started_at > FLUSHED_AFTER_SECONDS:
                self._flush()


def interrupted_summary(summary: Summary) -> Summary:
    """Return the summary of a run that ends here without having ended."""
    return replace(summary, run=interrupted(summary.run))


def flush(record: Record) -> None:
    """Wait until the disk has what the server appended last.

    Raises:
        OSError: the disk failed.
    """
    fd = os.open(record.aof_files()[-1], os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
