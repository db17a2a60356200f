"""codex: every option as its command line, and what only it prints."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from clinvk.backends.base import Confinement, Session
from tests.unit.backends.commands import (
    REGISTRY,
    command,
    confined,
    each_mode,
    parse,
    resumed,
    unsupported,
)

START = ("codex", "exec", "--json", "--skip-git-repo-check", "--ephemeral")
NEVER_ASK = ["-c", 'approval_policy="never"']
SANDBOX = {
    "read-only": ["--sandbox", "read-only"],
    "workspace": ["--sandbox", "workspace-write"],
    "full": ["--sandbox", "danger-full-access"],
}
APPROVAL = {"auto": SANDBOX["workspace"], "always": SANDBOX["read-only"]}


@each_mode
def test_modes(approval: Any, sandbox: Any) -> None:
    built = command("codex", approval_mode=approval, sandbox_mode=sandbox)
    own = SANDBOX.get(sandbox, [])
    expected = [*NEVER_ASK, *own] if approval == "none" else own or APPROVAL.get(approval, [])
    assert built.argv == (*START, *expected, "-")
    assert built.warnings == ()


def test_options() -> None:
    text = 'line "one"\nline two 🎉'
    built = command("codex", model="m", system_prompt=text, extra=["-c", "a=1"])
    assert built.argv[:7] == (*START, "--model", "m")
    assert built.argv[7] == "-c"
    assert json.loads(built.argv[8].removeprefix("developer_instructions=")) == text
    assert built.argv[9:] == ("-c", "a=1", "-")
    assert unsupported("codex") == {"max_turns", "max_tokens", "allowed_tools"}


def test_without_project_settings_no_directory_of_the_task_is_trusted() -> None:
    confinement = Confinement(project_settings=False, directory='/a "b"/c')
    option, value = confined("codex", confinement).argv[5:7]
    trust = {"trust_level": "untrusted"}
    assert option == "-c"
    assert tomllib.loads(value) == {
        "projects": {'/a "b"/c': trust, '/a "b"': trust, "/": trust},
    }
    assert confined("codex", Confinement(project_settings=False)).argv == (*START, "-")


def test_errors_before_success_are_no_failure() -> None:
    events = [
        {"type": "error", "message": "Reconnecting... 1/5"},
        {"type": "item.completed", "item": {"type": "error", "message": "a warning"}},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "thinking"}},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "the answer"}},
        {"type": "turn.completed", "usage": {"input_tokens": 1, "output_tokens": 2}},
    ]
    stdout = "\n".join(map(json.dumps, events)).encode()
    assert parse("codex", 0, stdout, b"").output == "the answer"


def test_its_session_is_kept_and_gone_on_with() -> None:
    assert "--ephemeral" in command("codex").argv
    assert "--ephemeral" not in resumed("codex", Session(keep=True)).argv
    session = Session(keep=True, resume="id")
    argv = resumed("codex", session, sandbox_mode="full", extra=["--flag"]).argv
    assert argv[-6:] == ("--sandbox", "danger-full-access", "--flag", "resume", "id", "-")


SETTINGS = """
model_provider = "mine"
[model_providers.mine]
base_url = "http://127.0.0.1"
[model_providers.patient]
request_max_retries = 3
[model_providers."no plain name"]
name = "x"
"""


@pytest.mark.parametrize("text", [None, "not [toml", "model_providers = 1"])
def test_without_providers_of_ones_own_there_is_no_switch(text: str | None) -> None:
    assert REGISTRY.get("codex").quiet_arguments({}, lambda _: text) == ()


def test_retries_of_the_users_providers_are_switched_off_unless_they_are_set() -> None:
    read = {"/own/config.toml": SETTINGS}.get
    quiet = REGISTRY.get("codex").quiet_arguments({"CODEX_HOME": "/own"}, read)
    assert quiet[1::2] == (
        "model_providers.mine.request_max_retries=0",
        "model_providers.mine.stream_max_retries=0",
        "model_providers.patient.stream_max_retries=0",
    )
    argv = confined("codex", Confinement(quiet=quiet)).argv
    assert argv[-len(quiet) - 1 :] == (*quiet, "-")
