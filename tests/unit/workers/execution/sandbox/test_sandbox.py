"""What is done about a task's sandbox mode: enforced, refused, or left to the CLI, and said so."""

from __future__ import annotations

from typing import Any

import pytest

from clinvk.backends import BackendRegistry
from clinvk.core.spec import Enforcement, TaskSpec
from clinvk.core.worker_config import WorkerConfig
from workers.execution.sandbox import detection
from workers.execution.sandbox.mechanism import Mechanism
from workers.execution.sandbox.sandbox import Decision, Sandbox

REGISTRY = BackendRegistry.from_config({"sh": {"command": ["sh"]}})
WORKS = Mechanism(bubblewrap="/bin/bwrap", abi=7)
FAILS = Mechanism(reason="no such thing")


@pytest.fixture
def decide(monkeypatch: pytest.MonkeyPatch) -> Any:
    def decision(
        mechanism: Mechanism,
        backend: str = "sh",
        must_hold: bool = False,
        config: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Decision:
        monkeypatch.setattr(detection, "detect", lambda _: mechanism)
        sandbox = Sandbox(WorkerConfig(**config or {}))
        spec = TaskSpec(backend=backend, prompt="x", **fields)
        return sandbox.decide(spec, REGISTRY.get(backend), must_hold=must_hold)

    return decision


@pytest.mark.parametrize("mode", [None, "default", "full"])
def test_what_nobody_restricts_is_not_looked_at(decide: Any, mode: str | None) -> None:
    assert decide(WORKS, must_hold=True, sandbox_mode=mode) == Decision()


def test_enforced(decide: Any) -> None:
    found = decide(WORKS, sandbox_mode="workspace")
    assert found.is_enforced
    assert found.enforcement == Enforcement(mode="workspace", by="bwrap+landlock")
    assert (found.problem, found.warnings) == (None, ())


@pytest.mark.parametrize(
    ("backend", "mode", "by", "gaps"),
    [
        ("sh", "read-only", "none", ["os", "cli"]),
        ("codex", "workspace", "cli", ["os"]),
        ("claude", "workspace", "none", ["os", "cli"]),
        ("claude", "read-only", "cli", ["os"]),
        ("gemini", "read-only", "cli", ["os"]),
    ],
)
def test_without_a_mechanism_the_cli_is_relied_on_and_the_result_says_so(
    decide: Any, backend: str, mode: str, by: str, gaps: list[str]
) -> None:
    found = decide(FAILS, backend, sandbox_mode=mode)
    assert found.enforcement == Enforcement(mode=mode, by=by, gaps=gaps)
    assert not found.is_enforced
    assert found.problem is None
    assert "not enforced by the operating system (no such thing)" in found.warnings[0]


@pytest.mark.parametrize(
    ("options", "is_refused"),
    [
        ({}, False),
        ({"must_hold": True}, True),
        ({"config": {"sandbox_require": True}}, True),
        ({"network": "off"}, True),
        ({"must_hold": True, "config": {"sandbox": "off"}}, False),
        ({"config": {"sandbox": "off"}, "network": "off"}, True),
    ],
)
def test_what_must_hold_is_refused_without_a_mechanism(
    decide: Any, options: dict[str, Any], is_refused: bool
) -> None:
    found = decide(FAILS, sandbox_mode="read-only", **options)
    assert bool(found.problem) == is_refused
    if is_refused:
        assert "no such thing" in found.problem
        assert "install bubblewrap" in found.problem


def test_a_closed_network_needs_a_mode(decide: Any) -> None:
    assert "network: off needs sandbox_mode" in decide(WORKS, network="off").problem
    assert decide(WORKS, network="on").problem is None


def test_the_narrower_network_counts(decide: Any) -> None:
    ports = {"config": {"network": {"ports": [443]}}, "sandbox_mode": "workspace"}
    assert decide(WORKS, **ports).network.ports == (443,)
    assert decide(WORKS, **ports, network="on").network.ports == (443,)
    assert decide(WORKS, **ports, network="off").network.is_off
    closed = {"config": {"network": "off"}, "sandbox_mode": "workspace"}
    assert decide(WORKS, **closed, network="on").network.is_off


def test_a_network_that_cannot_be_restricted_is_refused(decide: Any) -> None:
    ports = {"config": {"network": {"ports": [443]}}, "sandbox_mode": "workspace"}
    assert "ports need Landlock" in decide(Mechanism(bubblewrap="b"), **ports).problem


def test_what_a_worker_announces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "detect", lambda _: WORKS)
    assert Sandbox(WorkerConfig()).description() == {"by": "bwrap+landlock", "gaps": []}
    monkeypatch.setattr(detection, "detect", lambda _: FAILS)
    assert Sandbox(WorkerConfig(sandbox_require=True)).description() == {
        "by": "none",
        "reason": "no such thing",
        "require": True,
    }
