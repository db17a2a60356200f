"""Read the record of a run that does not go on, with a server that ends with its reader."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clinvk.core.child_environment import passed
from clinvk.core.errors import BrokerError
from clinvk.core.spec import RunSummary
from clinvk.local import server
from clinvk.local.records import Record, interrupted
from clinvk.output.streams import note
from clinvk.store.connection import retry
from clinvk.store.store import Store

START_SECONDS = 120.0
POLL_SECONDS = 0.002
LOG = "server.log"
WATCH = 'read -r _; kill -9 "$1"; rm -rf -- "$2"'
"""Ends the server, and removes its directory, when a pipe closes: however its reader ends."""
_CUT = re.compile(r"Truncating the AOF \S+ at offset (\d+)")


class RecordStore(Store):
    """The store of a run that does not go on."""

    def summary(self, run: str) -> RunSummary | None:
        """Read a run's counts and times; one that has not ended is `interrupted`."""
        found = super().summary(run)
        return interrupted(found) if found is not None else None


@contextmanager
def reading(record: Record, program: str) -> Iterator[str]:
    """Start a server with what is in a record; gives its broker URL, and ends it after.

    What is done to this server is done to a copy.

    Raises:
        BrokerError: the record cannot be read.
    """
    scratch = server.make_directory()
    try:
        try:
            record.copy_to(Path(scratch))
        except OSError as error:
            raise BrokerError(
                f"the record of run {record.run_id} cannot be read: {error}"
            ) from error
        with _running(program, scratch, record.run_id):
            if lost := lost_bytes(Path(scratch, LOG), record.end_bytes()):
                note(f"warning: {cut_short(record.run_id, lost)}")
            yield server.broker_url(scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def cut_short(run: str, lost: int) -> str:
    """Say what is missing of a record whose file ends in the middle of something."""
    return (
        f"the record of run {run} was cut short: its last {lost} bytes were no whole change, and "
        "are left out; what comes before them is there"
    )


def lost_bytes(log: Path, size: int) -> int:
    """Return how many bytes at the end of a file of `size` a server could not use, from its log."""
    found = _CUT.search(log.read_text("utf-8", "replace"))
    return max(0, size - int(found[1])) if found else 0


@contextmanager
def _running(program: str, directory: str, run: str) -> Iterator[None]:
    log = Path(directory, LOG)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            server.argv(program, directory, directory),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=passed(os.environ, server.ENVIRONMENT),
            start_new_session=True,
        )
    watch = subprocess.Popen(
        ["/bin/sh", "-c", WATCH, "sh", str(process.pid), directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(process, directory, run)
        yield
    finally:
        watch.kill()
        watch.wait()
        assert watch.stdin is not None
        watch.stdin.close()
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], directory: str, run: str) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while not server.is_up(directory):
        if process.poll() is not None or time.monotonic() > give_up_at:
            lines = Path(directory, LOG).read_text("utf-8", "replace").strip().splitlines()
            why = lines[-1] if lines else "its server does not start"
            raise BrokerError(f"the record of run {run} cannot be read: {why}")
        time.sleep(POLL_SECONDS)
    with contextlib.closing(Store.connect(server.broker_url(directory), 5.0)) as store:
        retry(store.redis.ping, START_SECONDS)
