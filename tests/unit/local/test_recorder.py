"""The end of a local run's record, with a server on paper."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from clinvk.core.spec import RunSummary
from clinvk.local.recorder import RunRecorder


class Server:
    """A server whose disk is busy: it says so often that it has not written all."""

    def __init__(self, busy: int) -> None:
        self.busy = busy

    def info(self, section: str) -> dict[str, Any]:
        assert section == "persistence"
        self.busy -= 1
        about = {"aof_enabled": 1, "aof_last_write_status": "ok"}
        return about | {"aof_buffer_length": 100 if self.busy > 0 else 0}


def test_the_end_waits_until_the_server_has_written_all_of_the_run() -> None:
    server = Server(busy=5)
    run = RunSummary(run_id="r", total=1, ok=1, state="done", ended_ms=1)
    written: list[Any] = []
    record: Any = SimpleNamespace(
        run_id="r", write_summary=written.append, aof_bytes=lambda: 10, has_summary=lambda: True
    )
    store: Any = SimpleNamespace(
        redis=server, runs=lambda _: [run], ledger=lambda _: {}, others=lambda: 0
    )
    recorder = RunRecorder(record, "/nowhere", [])
    assert recorder.end(store) is False
    assert server.busy == 0
    assert [each.run for each in written] == [run]
