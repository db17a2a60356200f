"""How well a machine can run tasks, with CLIs that are scripts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clinvk.backends.base import Backend
from clinvk.backends.registry import BackendRegistry
from clinvk.core.checks import Check
from clinvk.core.worker_config import WorkerConfig
from workers import health
from workers.execution.sandbox.mechanism import Mechanism
from workers.execution.sandbox.sandbox import Sandbox

IN = "logged in"
CLI = """#!/bin/sh
case "$1" in --version) {version};; *) {login};; esac
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    return tmp_path


def install(home: Path, name: str, version: str = "echo 999.0.0", login: str = "exit 1") -> None:
    path = home / "bin" / name
    path.write_text(CLI.format(version=version, login=login))
    path.chmod(0o755)


def look(home: Path, name: str, *, needed: bool = False, **variables: str) -> Check:
    backend = BackendRegistry({}).get(name)
    environment = {"PATH": f"{home}/bin:/bin", **variables}

    def environment_of(_: Backend) -> dict[bytes, bytes]:
        return {os.fsencode(key): os.fsencode(value) for key, value in environment.items()}

    ((_, _, check),) = health.clis([backend], environment_of, {name} if needed else ())
    assert Check.from_wire(check.to_dict()) == check
    return check


def test_a_cli_that_is_not_there(home: Path) -> None:
    found = look(home, "claude")
    assert (found.state, found.detail) == ("absent", "not installed")
    assert found.hint == "npm install -g @anthropic-ai/claude-code"
    assert look(home, "claude", needed=True).state == "problem"


def test_a_cli_that_does_not_work(home: Path) -> None:
    install(home, "claude", version="echo 'no node' >&2; exit 3")
    found = look(home, "claude", needed=True)
    assert found.state == "problem"
    assert found.detail == "claude --version does not work: no node"


def test_an_older_cli(home: Path) -> None:
    install(home, "claude", version="echo '1.9.300 (Claude Code)'", login="exit 0")
    found = look(home, "claude", needed=True)
    assert found.state == "warning"
    assert "1.9.300 (Claude Code), logged in; clinvk was tested with 2." in found.detail


@pytest.mark.parametrize(
    ("name", "login", "files", "variables", "expected"),
    [
        ("claude", "exit 0", {}, {}, "logged in"),
        ("claude", "exit 1", {}, {}, "not logged in"),
        ("codex", "exit 0", {}, {}, "logged in"),
        ("codex", "exit 1", {}, {}, "not logged in"),
        ("codex", "exit 1", {}, {"CODEX_API_KEY": "k"}, "logged in"),
        ("codex", "exit 1", {".codex/config.toml": 'model_provider = "x"'}, {}, ""),
        ("codex", "exit 1", {"c/config.toml": 'model_provider = "x"'}, {"CODEX_HOME": "~/c"}, ""),
        ("gemini", "exit 0", {}, {}, "not logged in"),
        ("gemini", "exit 0", {".gemini/oauth_creds.json": "{}"}, {}, "logged in"),
        ("gemini", "exit 0", {".gemini/.env": "GEMINI_API_KEY=x"}, {}, "logged in"),
        ("gemini", "exit 0", {}, {"GOOGLE_API_KEY": "k"}, "logged in"),
        (
            "gemini",
            "exit 0",
            {"g/.gemini/.env": "GOOGLE_API_KEY=x"},
            {"GEMINI_CLI_HOME": "~/g"},
            "logged in",
        ),
    ],
)
def test_logins(
    home: Path,
    name: str,
    login: str,
    files: dict[str, str],
    variables: dict[str, str],
    expected: str,
) -> None:
    install(home, name, login=login)
    for path, text in files.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    found = look(home, name, needed=True, **variables)
    assert found.detail == ", ".join(word for word in ("999.0.0", expected) if word)
    assert found.state == ("problem" if expected.startswith("not") else "ok")


@pytest.mark.parametrize(
    ("said", "tested", "older"),
    [
        ("2.1.197 (x)", "2.1.197", False),
        ("v2.1.9", "2.1.197", True),
        ("codex-cli 0.170.0", "0.169.0", False),
        ("2.1", "2.1.1", True),
        ("unknown", "1.0", False),
        ("1.0", "", False),
    ],
)
def test_versions(said: str, tested: str, *, older: bool) -> None:
    assert health.is_older(said, tested) is older


def checks(config: WorkerConfig, mechanism: Mechanism) -> dict[str, Check]:
    sandbox = Sandbox(config)
    sandbox.use(mechanism)
    return {check.name: check for check in health.machine(config, sandbox)}


def test_a_machine(home: Path) -> None:
    found = checks(WorkerConfig(), Mechanism(reason="no bubblewrap"))
    assert (found["sandbox"].state, found["sandbox"].detail) == ("warning", "no bubblewrap")
    assert found["git"].state == "ok"
    assert found["disk"].detail.endswith(f" MiB free at {home}")
    required = checks(WorkerConfig(sandbox_require=True), Mechanism(reason="x"))
    assert required["sandbox"].state == "problem"
    off = checks(WorkerConfig(sandbox="off"), Mechanism(reason="worker.sandbox is off"))
    assert off["sandbox"].hint == "set worker.sandbox: auto"


def test_a_policy_that_cannot_be_used(home: Path) -> None:
    path = home / "policy.yaml"
    path.write_text("roots: [/x]\n")
    found = checks(WorkerConfig(policy_file=str(path)), Mechanism())["policy"]
    assert (found.state, found.detail.partition(":")[0]) == ("problem", str(path))


def test_a_disk_that_is_nearly_full(home: Path) -> None:
    del home
    found = checks(WorkerConfig(spill_reserve_bytes=1 << 60), Mechanism())["disk"]
    assert found.state == "warning"


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"name": "x"}, {"name": "x", "state": "fine"}, {"name": 1, "state": "ok"}],
)
def test_what_a_worker_announced_may_be_anything(value: object) -> None:
    assert Check.from_wire(value) is None
