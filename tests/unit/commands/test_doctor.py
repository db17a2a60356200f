"""`clinvk doctor` from outside."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from clinvk.commands import doctor
from clinvk.core.checks import Check
from clinvk.core.errors import BrokerError
from clinvk.local import start
from clinvk.runs.celery_client import CeleryClient
from tests.unit.fake_fleet import Clinvk
from workers import health

WELL = Check(name="sandbox", state="ok", detail="bwrap")
ENTRY: dict[str, Any] = {"slots": 1, "queues": [], "version": "1", "clis": {"claude": "2.1"}}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CLINVK_BROKER_URL", raising=False)
    monkeypatch.setattr(health, "machine", lambda *_: iter([WELL]))

    def started(*_: object) -> Any:
        return nullcontext(type("Private", (), {"wait_for_server": lambda _: None})())

    monkeypatch.setattr(start, "start", started)


def test_a_machine_without_a_cli(clinvk: Clinvk, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("backends: {claude: {model: x}}")
    ended = clinvk("doctor", "--config", "c.yaml")
    lines = ended.stdout.splitlines()
    assert lines[0] == "ok       configuration   c.yaml"
    assert "ok       sandbox         bwrap" in lines
    at = lines.index("problem  claude          not installed")
    assert lines[at + 1].strip() == "-> npm install -g @anthropic-ai/claude-code"
    assert "absent   codex           not installed" in lines
    assert (ended.stderr, ended.status) == ("", 1)


def test_hints_alone(clinvk: Clinvk, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("backends: {claude: {model: x}}")
    ended = clinvk("doctor", "--fix-hints", "--config", "c.yaml")
    assert ended.stdout.splitlines()[:1] == ["npm install -g @anthropic-ai/claude-code"]


def test_a_configuration_that_cannot_be_read(clinvk: Clinvk, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("paralel: {}")
    ended = clinvk("doctor", "--json", "--config", "c.yaml")
    found = json.loads(ended.stdout)
    assert (found["ok"], ended.status) == (False, 1)
    (check,) = found["checks"]
    assert check["detail"].startswith("c.yaml: paralel: unknown setting")


def test_a_broker_that_is_away(clinvk: Clinvk) -> None:
    ended = clinvk("doctor", "--json", "--broker", "redis://127.0.0.1:1")
    (broker,) = [c for c in json.loads(ended.stdout)["checks"] if c["name"] == "broker"]
    assert broker["state"] == "problem"
    assert ended.status == 1


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def connect(client: CeleryClient, _: str) -> None:
        store = type("Store", (), {"workers": lambda *_: found})()
        client.store = store
        client.close = lambda: None  # type: ignore[method-assign]
        client.reaching_broker = nullcontext  # type: ignore[method-assign,assignment]

    monkeypatch.setattr(CeleryClient, "__init__", connect)
    monkeypatch.setattr(doctor, "_server", lambda *_: iter([]))
    return found


def fleet(clinvk: Clinvk) -> tuple[list[dict[str, str]], int]:
    ended = clinvk("doctor", "--fleet", "--json", "--broker", "redis://somewhere")
    return json.loads(ended.stdout)["checks"][1:], ended.status


def test_a_fleet_without_workers(clinvk: Clinvk, workers: dict[str, Any]) -> None:
    del workers
    (found,), status = fleet(clinvk)
    assert (found["detail"], status) == ("none is live", 1)


def test_what_each_worker_found(clinvk: Clinvk, workers: dict[str, Any]) -> None:
    problem = Check(name="claude", state="problem", detail="not logged in", hint="log in")
    workers["a@x"] = ENTRY | {"checks": [WELL.to_dict(), "nonsense"]}
    workers["b@x"] = ENTRY | {"checks": [problem.to_dict()]}
    workers["c@x"] = ENTRY
    found, status = fleet(clinvk)
    assert found[0] == WELL.to_dict() | {"worker": "a@x"}
    assert found[1] == problem.to_dict() | {"worker": "b@x"}
    assert (found[2]["worker"], found[2]["state"]) == ("c@x", "warning")
    assert found[3]["detail"] == "3 live, all with the same versions"
    assert status == 1


def test_where_workers_differ(clinvk: Clinvk, workers: dict[str, Any]) -> None:
    checks = {"checks": [WELL.to_dict()]}
    workers["a@x"] = ENTRY | checks
    workers["b@x"] = ENTRY | checks | {"version": "2"}
    found, status = fleet(clinvk)
    assert [(c["name"], c["detail"]) for c in found[2:]] == [("clinvk", "1 on a@x; 2 on b@x")]
    assert status == 0


def test_a_private_server_that_does_not_start(
    clinvk: Clinvk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise BrokerError("no server program")

    monkeypatch.setattr(start, "start", fail)
    found = json.loads(clinvk("doctor", "--json").stdout)["checks"]
    assert [c["detail"] for c in found if c["name"] == "private server"] == ["no server program"]
