"""What the recorder of a local run does beside the run, with a server on paper."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from clinvk.core.spec import RunSummary
from clinvk.local import recorder as recorder_module
from clinvk.local.recorder import RunRecorder


def test_the_disk_is_to_take_what_was_appended_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server leaves that to the system: see `server.argv`."""
    flushed: list[Any] = []
    monkeypatch.setattr(recorder_module, "flush", flushed.append)
    monkeypatch.setattr(recorder_module, "FLUSHED_AFTER_SECONDS", -1)
    sizes = iter([10, 10, 20])
    record: Any = SimpleNamespace(
        run_id="r", write_summary=lambda _: None, aof_bytes=lambda: next(sizes)
    )
    about = {"aof_enabled": 1, "aof_last_write_status": "ok"}
    store: Any = SimpleNamespace(
        redis=SimpleNamespace(info=lambda _: about),
        runs=lambda _: [RunSummary(run_id="r", total=1)],
        ledger=lambda _: {},
    )
    recorder = RunRecorder(record, "/nowhere", [])
    for _ in range(3):
        recorder.look(store)
    assert flushed == [record, record]
