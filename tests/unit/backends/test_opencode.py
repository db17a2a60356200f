"""opencode: every option as its command line, and what only its own events say."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from clinvk.backends.base import Confinement, Session
from clinvk.core.spec import ErrorKind, Usage
from clinvk.core.timestamps import rfc3339
from tests.unit.backends.commands import (
    ENDED_AT,
    REGISTRY,
    command,
    confined,
    each_mode,
    parse,
    resumed,
    steps,
    unsupported,
)

START = (
    *("opencode", "run", "--format", "json", "--title", "clinvk"),
    *("--print-logs", "--log-level", "ERROR"),
)


@each_mode
def test_modes(approval: Any, sandbox: Any) -> None:
    built = command("opencode", approval_mode=approval, sandbox_mode=sandbox)
    is_free = approval == "none" and sandbox != "read-only"
    assert built.argv == (*START, *(["--auto"] if is_free else []))
    said = json.loads(built.env.get("OPENCODE_PERMISSION", "{}"))
    if sandbox == "read-only" or approval == "always":
        assert (said["*"], said["read"], said.get("edit"), said.get("bash")) == (
            *("deny", "allow"),
            *(None, None),
        )
    elif approval == "auto":
        assert (said["*"], said["edit"], said["external_directory"]) == ("deny", "allow", "deny")
    else:
        assert said == {}
    assert bool(built.warnings) == (sandbox == "workspace")


def test_options() -> None:
    built = command("opencode", model="p/m", max_tokens=9, extra=["--thinking"])
    assert built.argv == (*START, "--model", "p/m", "--thinking")
    assert built.env["OPENCODE_EXPERIMENTAL_OUTPUT_TOKEN_MAX"] == "9"
    assert unsupported("opencode") == {"max_turns", "allowed_tools", "system_prompt"}


def test_a_session_is_in_memory_unless_it_is_kept() -> None:
    assert command("opencode").env["OPENCODE_DB"] == ":memory:"
    assert "OPENCODE_DB" not in resumed("opencode", Session(keep=True)).env
    again = resumed("opencode", Session(keep=True, resume="ses_1"))
    assert again.argv == (*START, "--session", "ses_1")
    assert "OPENCODE_DB" not in again.env


def test_without_project_settings_it_reads_none() -> None:
    for name in ("OPENCODE_DISABLE_PROJECT_CONFIG", "OPENCODE_PURE"):
        assert name not in command("opencode").env
        assert confined("opencode", Confinement(project_settings=False)).env[name] == "1"


def preloaded(environment: Mapping[str, str | None]) -> str:
    loaded = environment["BUN_INSPECT_PRELOAD"]
    assert loaded is not None
    start, _, code = loaded.partition("base64,")
    assert start == "data:text/javascript;"
    return base64.b64decode(code).decode()


def test_what_is_loaded_before_it_is_not_passed_on() -> None:
    untrusted = confined("opencode", Confinement(project_settings=False)).env
    for environment in (REGISTRY.get("opencode").quiet_env, untrusted):
        assert preloaded(environment).startswith("delete process.env.BUN_INSPECT_PRELOAD")


def test_without_project_settings_code_of_the_project_is_not_loaded() -> None:
    """Nor does it try again then, unless it may."""
    assert "BUN_INSPECT_PRELOAD" not in command("opencode").env
    may_retry = confined("opencode", Confinement(project_settings=False)).env
    quiet = confined("opencode", Confinement(project_settings=False, quiet=())).env
    assert ["build.onLoad" in preloaded(env) for env in (may_retry, quiet)] == [True, True]
    assert ["globalThis.fetch" in preloaded(env) for env in (may_retry, quiet)] == [False, True]


def test_its_directories_are_those_of_xdg() -> None:
    named = {"XDG_CONFIG_HOME": "/c", "XDG_DATA_HOME": "/d"}
    moved = REGISTRY.get("opencode").sandbox_paths(named)
    assert "/c/opencode/opencode.json" in moved.settings
    assert "/d/opencode/auth.json" in moved.credentials
    at_home = REGISTRY.get("opencode").sandbox_paths({})
    assert "~/.cache/opencode/models.json" in at_home.settings
    assert at_home.sessions == ("~/.local/share/opencode",)


@pytest.mark.parametrize(
    ("logins", "expected"),
    [('{"p":{"type":"api","key":"x"}}', True), ("{}", None), (None, None)],
)
def test_it_is_logged_in_where_it_has_a_login(logins: str | None, expected: bool | None) -> None:
    found = REGISTRY.get("opencode").is_logged_in({}, lambda _: logins, has_login=None)
    assert found is expected


def lines(*events: dict[str, Any]) -> bytes:
    return "".join(json.dumps({"sessionID": "ses_1", **event}) + "\n" for event in events).encode()


def finish(reason: str, **tokens: Any) -> dict[str, Any]:
    return {"type": "step_finish", "part": {"reason": reason, "tokens": tokens, "cost": 0.25}}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "part": {"text": said}}


TOOL = {"type": "tool_use", "part": {"tool": "read", "state": {"status": "completed"}}}


def test_the_answer_is_what_it_says_after_its_last_tool() -> None:
    cache = {"read": 3, "write": 4}
    first = finish("tool-calls", input=10, output=5, reasoning=2, cache=cache)
    said = [text("first"), TOOL, first, text("one"), text("two"), finish("stop", input=1, output=1)]
    parsed = parse("opencode", 0, lines(*said))
    assert (parsed.output, parsed.acted, parsed.session_id) == ("one\ntwo", False, "ses_1")
    assert parsed.usage == Usage(
        input_tokens=18, cached_input_tokens=3, output_tokens=8, total_tokens=26
    )
    assert parsed.cost_usd == 0.5


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("length", ErrorKind.TOO_LARGE),
        ("content-filter", ErrorKind.REFUSED),
        ("tool-calls", ErrorKind.FAILED),
        ("unknown", ErrorKind.OVERLOADED),
    ],
)
def test_only_a_step_that_stops_is_the_end(reason: str, kind: ErrorKind) -> None:
    parsed = parse("opencode", 0, lines(text("half"), finish(reason)))
    assert (parsed.output, parsed.error_kind) == (None, kind)


@pytest.mark.parametrize(
    ("headers", "delay", "kind"),
    [
        ({"retry-after": "5"}, 5.0, ErrorKind.RATE_LIMITED),
        ({"retry-after": "9000"}, 9000.0, ErrorKind.USAGE_LIMIT),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5, ErrorKind.RATE_LIMITED),
        ({"retry-after": "Wed, 21 Oct"}, None, ErrorKind.RATE_LIMITED),
    ],
)
def test_a_limit_opens_when_the_headers_say(
    headers: dict[str, str], delay: float | None, kind: ErrorKind
) -> None:
    data = {"message": "slow down", "statusCode": 429, "responseHeaders": headers}
    event = {"type": "error", "error": {"name": "APIError", "data": data}}
    parsed = parse("opencode", 1, lines(event))
    assert parsed.error_kind == kind
    assert parsed.retry_at == (None if delay is None else ENDED_AT + timedelta(seconds=delay))
    (step,) = steps("opencode", lines(event))
    assert step.until == (rfc3339(parsed.retry_at) if parsed.retry_at else None)


def test_a_missing_model_is_named_in_its_log_alone() -> None:
    data = {"message": "Unexpected server error. Check server logs for details."}
    event = {"type": "error", "error": {"name": "UnknownError", "data": data}}
    log = b'level=ERROR error="ProviderModelNotFoundError: Model not found: p/none. Did"'
    parsed = parse("opencode", 1, lines(event), log)
    assert (parsed.error, parsed.error_kind) == (
        "Model not found: p/none.",
        ErrorKind.INVALID,
    )


def test_a_complaint_is_read_without_its_colors() -> None:
    said = b"timestamp=x level=ERROR\n\x1b[91m\x1b[1mError: \x1b[0mSession not found\n"
    assert parse("opencode", 1, b"", said).error == "Error: Session not found"
    said = b"\x1b[91m\x1b[1mError: \x1b[0mUnexpected error\n\nEEXIST: it exists\n"
    assert parse("opencode", 1, b"", said).error == "Error: Unexpected error: EEXIST: it exists"


def test_one_of_many_that_set_up_the_database_at_once_is_tried_again() -> None:
    """Recorded from 1.18.33: six were started in a new home, and one ended so."""
    said = (
        b"\x1b[91m\x1b[1mError: \x1b[0mUnexpected error\n\nFailed query: \n"
        b"        CREATE TABLE `workspace` (\n          `id` text PRIMARY KEY,\n"
        b"          `time_used` integer NOT NULL\n        );\n      \nparams: \n"
    )
    parsed = parse("opencode", 1, b"", said)
    assert (parsed.error_kind, parsed.acted) == (ErrorKind.OVERLOADED, False)
    assert (parsed.error or "").startswith("Error: Unexpected error: Failed query: CREATE TABLE")
    assert not parsed.at_capacity  # so the provider's gate learns nothing of it
