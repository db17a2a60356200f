"""`clinvk init`: what it writes can be used as it is, and with every comment removed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from clinvk.config import file
from clinvk.config.models import Config
from tests.unit.fake_fleet import Clinvk


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CLINVK_CONFIG", raising=False)
    return tmp_path


def install(home: Path, *names: str) -> None:
    (home / "bin").mkdir()
    for name in names:
        (home / "bin" / name).write_text("#!/bin/sh\n")
        (home / "bin" / name).chmod(0o755)


def test_a_task_for_each_cli_that_is_here(clinvk: Clinvk, home: Path) -> None:
    install(home, "codex", "gemini")
    ended = clinvk("init")
    assert ended.stdout.splitlines() == [
        "claude: not found: npm install -g @anthropic-ai/claude-code",
        f"codex: {home}/bin/codex",
        f"gemini: {home}/bin/gemini",
        f"{home}/.clinvk/config.yaml: written",
        "tasks.json: written",
        "Next: clinvk parallel --file tasks.json --dry-run",
    ]
    assert (ended.stderr, ended.status) == ("", 0)
    tasks = json.loads((home / "tasks.json").read_text())["tasks"]
    assert [task["backend"] for task in tasks] == ["codex", "gemini"]
    assert clinvk("parallel", "--file", "tasks.json", "--dry-run").status == 0
    assert clinvk("config", "show").status == 0


def test_a_cli_that_is_used_only_where_it_is_named_is_told_only_if_it_is_here(
    clinvk: Clinvk, home: Path
) -> None:
    install(home, "opencode")
    told = [line.partition(":")[0] for line in clinvk("init").stdout.splitlines()[:4]]
    assert told == ["claude", "codex", "gemini", "opencode"]
    (task,) = json.loads((home / "tasks.json").read_text())["tasks"]
    assert task["backend"] == "opencode"


def test_without_a_cli_the_task_is_one_that_runs_anyway(clinvk: Clinvk, home: Path) -> None:
    assert clinvk("init").status == 0
    (task,) = json.loads((home / "tasks.json").read_text())["tasks"]
    assert task["backend"] == "echo"


def test_every_line_of_the_configuration_can_be_used(clinvk: Clinvk, home: Path) -> None:
    clinvk("init")
    path = home / ".clinvk" / "config.yaml"
    text = path.read_text()
    for commented in (text, re.sub(r"(?m)^# ( *[\w]+:)", r"\1", text).replace("\n#   ", "\n  ")):
        path.write_text(commented)
        values = file.read(path, "config.yaml", required=True)
        Config.model_validate(values)
    assert values["backends"]["mytool"] == {"command": ["mytool", "--stdin"]}
    assert values["queues"]["echo"] == {"max_concurrency": 8, "rate": "50/min"}
    assert set(values) >= {"broker_url", "steps", "parallel", "unified_flags"}


def test_files_that_exist_are_kept(clinvk: Clinvk, home: Path) -> None:
    (home / "tasks.json").write_text("mine")
    ended = clinvk("init", "--config", "c.yaml")
    assert "c.yaml: written\ntasks.json: kept as it is\n" in ended.stdout
    assert (home / "tasks.json").read_text() == "mine"
    assert "c.yaml: kept as it is" in clinvk("init", "--config", "c.yaml").stdout


def test_a_directory_that_cannot_be_written(clinvk: Clinvk, home: Path) -> None:
    (home / "f").touch()
    ended = clinvk("init", "--config", "f/c.yaml")
    assert (ended.stderr, ended.status) == ("clinvk: cannot write f/c.yaml: Not a directory\n", 2)
