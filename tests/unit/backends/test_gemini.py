"""gemini: every option as its command line."""

from __future__ import annotations

from typing import Any

from clinvk.backends.base import Confinement, Session
from tests.unit.backends.commands import (
    REGISTRY,
    command,
    confined,
    each_mode,
    resumed,
    unsupported,
)

START = ("gemini", "-o", "stream-json", "--skip-trust")
APPROVAL = {
    "auto": ["--approval-mode", "auto_edit"],
    "none": ["--approval-mode", "yolo"],
    "always": ["--approval-mode", "default"],
}


@each_mode
def test_modes(approval: Any, sandbox: Any) -> None:
    built = command("gemini", approval_mode=approval, sandbox_mode=sandbox)
    expected = APPROVAL.get(approval, [])
    if sandbox == "read-only":
        expected = ["--approval-mode", "plan"]
    elif sandbox == "full":
        expected = [*expected, "--no-sandbox"]
    assert built.argv == (*START, *expected)
    assert bool(built.warnings) == (sandbox == "workspace")


def test_options() -> None:
    built = command("gemini", model="m", allowed_tools=["a", "b"], extra=["--debug"])
    assert built.argv == (*START, "-m", "m", "--allowed-tools=a,b", "--debug")
    assert built.env["GEMINI_CLI_NO_RELAUNCH"] == "true"
    assert unsupported("gemini") == {"max_turns", "max_tokens", "system_prompt"}


def test_without_project_settings_the_folder_is_untrusted_while_they_are_read() -> None:
    built = confined("gemini", Confinement(project_settings=False))
    assert built.argv == START
    assert built.env["GEMINI_CLI_TRUST_WORKSPACE"] == "false"
    assert built.env["NODE_OPTIONS"].startswith("--import=data:text/javascript,")
    assert " " not in built.env["NODE_OPTIONS"]
    assert "NODE_OPTIONS" not in command("gemini").env


def test_allowed_tools_never_open_what_a_read_only_sandbox_closes() -> None:
    built = command("gemini", sandbox_mode="read-only", allowed_tools=["run_shell_command"])
    assert built.argv == (*START, "--approval-mode", "plan")
    (warning,) = built.warnings
    assert warning.startswith("gemini: allowed_tools is not supported")


def test_its_session_is_gone_on_with() -> None:
    assert resumed("gemini", Session(keep=True)).argv == command("gemini").argv
    argv = resumed("gemini", Session(keep=True, resume="id")).argv
    assert argv == (*command("gemini").argv, "--resume", "id")


def test_what_is_loaded_before_it_is_the_same_however_it_is_confined() -> None:
    quiet = REGISTRY.get("gemini").quiet_env["NODE_OPTIONS"]
    assert quiet is not None
    assert " " not in quiet
    assert "NODE_OPTIONS" not in confined("gemini", Confinement(quiet=())).env
    untrusted = confined("gemini", Confinement(project_settings=False, quiet=())).env
    only = confined("gemini", Confinement(project_settings=False)).env
    assert untrusted["NODE_OPTIONS"] == f"{only['NODE_OPTIONS']} {quiet}"
