"""What the real CLIs printed, and what must be understood from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvk.backends import BackendRegistry, packaged_names
from clinvk.backends.base import Captured, ParsedOutput, ProcessResult
from clinvk.core.spec import ErrorKind, Usage
from tests import harness
from tests.system.realcli.fakeapi import answer_to

RECORDED = sorted(harness.TRANSCRIPTS.glob("*/*.json"))
REGISTRY = BackendRegistry.from_config({"mytool": {"command": ["mytool"]}})

OK = None
EXPECTED: dict[str, dict[str, tuple[ErrorKind | None, str]]] = {
    "claude": {
        "success": (OK, answer_to("claude")),
        # A stream that is cut off is asked for again without streaming.
        "cut": (OK, answer_to("claude")),
        "400": (ErrorKind.INVALID, "API Error: 400 fake error"),
        "401": (ErrorKind.AUTH, "Failed to authenticate. API Error: 401"),
        "403": (ErrorKind.AUTH, "Failed to authenticate. API Error: 403"),
        "404": (ErrorKind.INVALID, "There's an issue with the selected model"),
        "429": (ErrorKind.RATE_LIMITED, "API Error: Request rejected (429)"),
        "500": (ErrorKind.FAILED, "API Error: 500 fake error"),
        "quota": (ErrorKind.QUOTA, "Credit balance is too low"),
        "refusal": (ErrorKind.REFUSED, "API Error: Claude Code is unable to respond"),
        "too_large": (ErrorKind.TOO_LARGE, "Error: piped stdin input exceeds 10MB"),
        "slash_command": (ErrorKind.INVALID, "Unknown command: /nosuchcommand"),
        "bad_flag": (ErrorKind.INVALID, "error: unknown option '--no-such-flag'"),
    },
    "codex": {
        "success": (OK, answer_to("codex")),
        "slash_command": (OK, answer_to("slash")),
        "400": (ErrorKind.INVALID, "fake 400"),
        "401": (ErrorKind.AUTH, "unexpected status 401 Unauthorized"),
        "403": (ErrorKind.AUTH, "unexpected status 403 Forbidden"),
        "404": (ErrorKind.INVALID, "unexpected status 404 Not Found"),
        "429": (ErrorKind.RATE_LIMITED, "exceeded retry limit, last status: 429"),
        "500": (ErrorKind.FAILED, "We’re currently experiencing high demand"),
        "quota": (ErrorKind.QUOTA, "Quota exceeded. Check your plan and billing details."),
        "refusal": (ErrorKind.REFUSED, "the model gave no answer (refused)"),
        "cut": (ErrorKind.FAILED, "stream disconnected before completion"),
        "too_large": (ErrorKind.TOO_LARGE, "Error: turn/start: turn/start failed: Input exceeds"),
        "bad_flag": (ErrorKind.INVALID, "error: unexpected argument '--no-such-flag' found"),
    },
    "gemini": {
        "success": (OK, answer_to("gemini")),
        "slash_command": (OK, answer_to("slash")),
        "400": (ErrorKind.INVALID, "fake error 400"),
        "401": (ErrorKind.AUTH, "fake error 401"),
        "403": (ErrorKind.AUTH, "fake error 403"),
        "404": (ErrorKind.INVALID, "[API Error: fake error 404]"),
        "429": (ErrorKind.RATE_LIMITED, "[API Error: fake error 429]"),
        "500": (ErrorKind.FAILED, "fake error 500"),
        "quota": (ErrorKind.QUOTA, "[API Error: Quota exceeded for quota metric 429]"),
        "refusal": (ErrorKind.REFUSED, "The model response was blocked due to safety settings."),
        "cut": (ErrorKind.FAILED, "Model stream ended without a finish reason."),
        "too_large": (ErrorKind.TOO_LARGE, "Warning: stdin input truncated to 8388608 bytes."),
        "bad_flag": (ErrorKind.INVALID, "Unknown arguments: such-flag, suchFlag"),
    },
}


def load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def parse(backend: str, returncode: int, stdout: bytes, stderr: bytes) -> ParsedOutput:
    return REGISTRY.get(backend).parse(
        ProcessResult(returncode=returncode, stdout=Captured.of(stdout), stderr=Captured.of(stderr))
    )


def test_each_expectation_has_its_transcript() -> None:
    recorded = {(path.parent.name, path.stem) for path in RECORDED}
    assert recorded == {(backend, name) for backend, names in EXPECTED.items() for name in names}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_transcript(path: Path) -> None:
    said = load(path)
    answer = parse(
        said["backend"], said["returncode"], said["stdout"].encode(), said["stderr"].encode()
    )
    kind, text = EXPECTED[said["backend"]][said["scenario"]]
    assert answer.error_kind is kind
    if kind is OK:
        assert (answer.output, answer.error) == (text, None)
    else:
        assert answer.output is None
        assert (answer.error or "").startswith(text)


@pytest.mark.parametrize("backend", EXPECTED)
def test_what_else_a_success_tells(backend: str) -> None:
    said = load(harness.TRANSCRIPTS / backend / "success.json")
    answer = parse(backend, 0, said["stdout"].encode(), b"")
    assert answer.usage == Usage(input_tokens=10, output_tokens=5, total_tokens=15)
    assert answer.session_id
    assert (answer.model is None) == (backend == "codex")  # it does not say
    assert (answer.cost_usd is not None) == (backend == "claude")  # the only one that does


@pytest.mark.parametrize("backend", EXPECTED)
@pytest.mark.parametrize("returncode", [0, 1, -15])
def test_silence_is_failure(backend: str, returncode: int) -> None:
    answer = parse(backend, returncode, b"", b"")
    assert answer.error_kind is ErrorKind.FAILED
    assert answer.error


@pytest.mark.parametrize("backend", EXPECTED)
def test_an_answer_with_a_bad_exit_code_is_failure(backend: str) -> None:
    said = load(harness.TRANSCRIPTS / backend / "success.json")
    assert parse(backend, 1, said["stdout"].encode(), b"").error_kind is not None


def test_claudes_turn_limit_is_told() -> None:
    result = {
        "type": "result",
        "subtype": "error_max_turns",
        "is_error": True,
        "num_turns": 3,
        "session_id": "s",
        "total_cost_usd": 0.5,
        "errors": ["Reached maximum number of turns (2)"],
    }
    answer = parse("claude", 1, json.dumps(result).encode(), b"")
    assert answer.error == "stopped at max_turns (3 turns)"
    assert answer.cost_usd == 0.5


def test_codex_troubles_on_the_way_are_no_failure() -> None:
    events = [
        {"type": "error", "message": "Reconnecting... 1/5"},
        {"type": "item.completed", "item": {"type": "error", "message": "a warning"}},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "thinking"}},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "the answer"}},
        {"type": "turn.completed", "usage": {"input_tokens": 1, "output_tokens": 2}},
    ]
    stdout = "\n".join(map(json.dumps, events)).encode()
    assert parse("codex", 0, stdout, b"").output == "the answer"


OUTPUTS = [load(path)["stdout"].encode() for path in RECORDED]
MEMBERS = [
    "type",
    "result",
    "is_error",
    "usage",
    "item",
    "error",
    "message",
    "stats",
    "content",
    "role",
    "status",
    "errors",
    "api_error_status",
    "modelUsage",
    "input_tokens",
    "total_cost_usd",
    "text",
    "subtype",
    "num_turns",
    "answer",
]
junk = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda text, cut, extra: text[:cut] + extra,
        st.sampled_from(OUTPUTS),
        st.integers(0, 3000),
        st.binary(max_size=20),
    ),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(MEMBERS),
                inner | st.sampled_from(["result", "turn.completed", "message", "init", "error"]),
                max_size=6,
            )
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(
    backend=st.sampled_from([*packaged_names(), "mytool"]),
    returncode=st.sampled_from([0, 1, 2, 41, 42, 53, 144, 145, 173, 244, -9, -15]),
    stdout=junk,
    stderr=junk,
)
def test_no_output_can_make_a_parser_raise(
    backend: str, returncode: int, stdout: bytes, stderr: bytes
) -> None:
    answer = parse(backend, returncode, stdout, stderr)
    assert (answer.error_kind is None) == (answer.error is None)
    if answer.error is not None:
        assert answer.error.strip()
        assert "\n" not in answer.error
        assert len(answer.error) <= 500
    if returncode != 0:
        assert answer.error_kind is not None
