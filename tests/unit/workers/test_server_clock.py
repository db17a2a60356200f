"""The server's time, on a machine whose own clock is wrong."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from clinvk.backends.base import Captured, ProcessResult
from clinvk.backends.registry import BackendRegistry
from workers.execution.live_reader import LiveReader
from workers.server_clock import ServerClock

HOUR = 3600.0


class Elapsed:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_it_goes_on_from_what_the_server_said() -> None:
    elapsed = Elapsed()
    clock = ServerClock(elapsed)
    elapsed.seconds = 104.0
    clock.note(1_000_000, asked_at=100.0)  # which took four seconds
    elapsed.seconds = 112.0
    assert clock.now_ms == 1_010_000


def test_it_is_this_machines_until_the_server_told_it() -> None:
    assert abs(ServerClock().seconds() - time.time()) < HOUR


def test_a_delay_that_a_cli_names_begins_at_the_servers_time() -> None:
    clock = ServerClock()
    wrong = time.time() + HOUR
    clock.note(round(wrong * 1000), asked_at=time.monotonic())
    reader = BackendRegistry.from_config({}).get("codex").reader()
    live = LiveReader("codex", reader, lambda *_: None, "UTC", clock.seconds)
    error = '{"type":"turn.failed","error":{"message":"rate limit exceeded: try again in 60s"}}\n'
    live.take(error.encode())
    stdout = Captured.of(error.encode())
    parsed = live.finish(
        ProcessResult(returncode=1, stdout=stdout, stderr=Captured(), ended_at=datetime.now(UTC))
    )
    assert parsed.retry_at is not None
    assert abs(parsed.retry_at.timestamp() - wrong - 60) < 600
