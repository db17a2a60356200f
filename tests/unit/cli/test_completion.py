"""What a shell completes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from clinvk.cli.main import cli
from clinvk.commands import completion
from clinvk.core.spec import RunOptions, TaskSpec
from clinvk.local.running import RunningRun
from clinvk.store.store import Store


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLINVK_BROKER_URL", raising=False)
    monkeypatch.setattr(completion, "running_runs", lambda: [RunningRun("20260101-local", 1, "x")])


@pytest.fixture
def fleet(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A fleet with one run, which has a task in one queue."""
    monkeypatch.setenv("CLINVK_BROKER_URL", "redis://somewhere")
    monkeypatch.setattr(Store, "connect", lambda *_: store)
    monkeypatch.setattr(store, "close", lambda: None)
    store.submit("20260102-fleet", [TaskSpec(backend="a", prompt="x")], RunOptions())
    return store


def completed(*arguments: str) -> list[tuple[str, str | None]]:
    *before, begun = arguments
    found = BashComplete(cli, {}, "clinvk", "_CLINVK_COMPLETE").get_completions(before, begun)
    return [(item.value, item.help) for item in found]


def test_runs(fleet: Store) -> None:
    del fleet
    runs = [
        ("last", "the newest run"),
        ("20260101-local", "local"),
        ("20260102-fleet", "parallel, running, 0 of 1 ended"),
    ]
    assert completed("status", "") == runs
    assert completed("attach", "2026") == runs[1:]
    assert completed("logs", "--follow", "20260102") == runs[2:]


def test_queues(fleet: Store) -> None:
    del fleet
    assert completed("queues", "pause", "") == [("a", "1 waiting")]


def test_backends(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("backends: {codex: {enabled: false}, mine: {command: [x]}}")
    at = ("--config", str(config))
    names = [name for name, _ in completed("parallel", *at, "--backend", "")]
    assert {"claude", "gemini", "mine"} <= set(names)
    assert "codex" not in names
    assert completed("compare", *at, "--backends", "claude,m") == [("claude,mine", None)]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "nonsense://"])
def test_without_a_broker_nothing_is_completed(url: str) -> None:
    assert completed("queues", "pause", "--broker", url, "") == []
    assert completed("status", "--broker", url, "") == []
