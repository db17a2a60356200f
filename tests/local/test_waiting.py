"""A run in which nothing happens says what it waits for."""

from __future__ import annotations

import pytest

from clinvk.core.spec import RunOptions, TaskSpec
from clinvk.runs import event_reader
from clinvk.runs.celery_client import CeleryClient


@pytest.fixture
def client(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> CeleryClient:
    monkeypatch.setattr(event_reader, "BLOCK_MS", 10)
    monkeypatch.setattr(event_reader, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(event_reader, "QUIET_SECONDS", 0.05)
    return CeleryClient(broker_url)


def test_it_is_said_once_until_it_changes(client: CeleryClient) -> None:
    client.store.announce("w", {"slots": 3, "queues": ["clinvk.a"]})
    client.store.limit("clinvk.a", paused=1)
    run = client.submit([TaskSpec(backend="a", prompt="x")] * 5, RunOptions())
    said, quiet = list[str](), 0
    for event in run.events():
        quiet += event.kind == "idle"
        if event.kind == "waiting":
            said.append(event.why)
            quiet = 0
        if quiet == 20 and len(said) == 1:  # it does not repeat itself
            client.store.limit("clinvk.a", paused=None)
            client.store.drain("w")
        elif quiet == 20:
            run.cancel("enough")
    assert said == ["5 waiting: queue a is paused", "5 waiting: no live worker serves a"]
    client.close()
