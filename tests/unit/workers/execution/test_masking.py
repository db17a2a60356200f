"""Secrets do not leave a worker in what a task says, however they are written there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clinvk.backends.base import ParsedOutput
from clinvk.core.spec import ErrorKind
from clinvk.core.steps import Step, StepKind
from workers.execution.masking import MASK, Masker, is_secret, secrets_in

KEY = 'sk-ant-"quoted"\\and-é/1234567890'
LINES = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nAASCBKcwggSjAgEAAoIBAQC7\n"


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        json.dumps({"said": KEY}),
        json.dumps({"said": KEY}, ensure_ascii=False),
        json.dumps({"arguments": json.dumps({"token": KEY})}),
        json.dumps({"arguments": json.dumps({"token": KEY})}, ensure_ascii=False),
    ],
)
def test_a_secret_is_masked_as_it_is_and_in_json(written: str) -> None:
    masked = Masker([KEY]).text(f"before {written} after")
    assert "1234567890" not in masked
    assert "sk-ant" not in masked
    assert MASK in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")


def test_a_json_line_is_still_json() -> None:
    line = json.dumps({"type": "x", "text": f"the key is {KEY}, yes"})
    assert json.loads(Masker([KEY]).text(line)) == {"type": "x", "text": "the key is ***, yes"}


def test_of_a_secret_with_several_lines_each_line_is_masked() -> None:
    masker = Masker([LINES])
    assert masker.text("got AASCBKcwggSjAgEAAoIBAQC7") == "got ***"
    assert "MIIE" not in masker.text(json.dumps(LINES))
    assert "MIIE" not in masker.text(" ".join(LINES.split()))


@pytest.mark.parametrize("kept", range(8, 20))
def test_the_beginning_of_a_secret_at_a_cut_is_masked(kept: int) -> None:
    secret = "0123456789abcdefghij"
    masker = Masker([secret, "another-secret"])
    assert masker.line(f"key {secret[:kept]}...") == "key ***..."
    assert masker.text(f"key {secret[:kept]}", is_cut=True) == "key ***"
    assert masker.text(f"key {secret[:kept]}") == f"key {secret[:kept]}"


def test_short_values_are_words_and_stay() -> None:
    assert Masker(["prod", "", "1234567"]).text("in prod 1234567") == "in prod 1234567"


def test_of_overlapping_secrets_the_longer_is_masked() -> None:
    assert Masker(["abcdefgh", "abcdefgh-ijkl"]).text("<abcdefgh-ijkl>") == "<***>"


def test_everything_that_a_cli_said_is_masked() -> None:
    fields = ("output", "error", "model", "session_id")
    said: dict[str, Any] = dict.fromkeys(fields, f"a {KEY}")
    masked: dict[str, Any] = dict.fromkeys(fields, "a ***")
    parsed = ParsedOutput(**said, error_kind=ErrorKind.FAILED, warnings=(KEY,))
    expected = ParsedOutput(**masked, error_kind=ErrorKind.FAILED, warnings=("***",))
    assert Masker([KEY]).parsed(parsed) == expected


def test_a_step_is_masked() -> None:
    step = Step(kind=StepKind.TOOL_CALL, text=f"Bash echo {KEY}", tool=f"mcp {KEY}", ok=True)
    assert Masker([KEY]).step(step) == Step(
        kind=StepKind.TOOL_CALL, text="Bash echo ***", tool="mcp ***", ok=True
    )
    other = Step(kind=StepKind.MESSAGE, text="hello")
    assert Masker([KEY]).step(other) is other


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("ANTHROPIC_API_KEY", True),
        ("GEMINI_API_KEY", True),
        ("CLAUDE_CODE_OAUTH_TOKEN", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("mytool_password", True),
        ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", False),
        ("ANTHROPIC_BASE_URL", False),
        ("PATH", False),
    ],
)
def test_names_that_say_that_their_value_is_secret(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


def test_the_secrets_of_an_environment() -> None:
    variables = {
        "MY_API_KEY": "key-of-mine",
        "LICENSE": "license-of-mine",
        "HTTPS_PROXY": "http://me:pass%20word@proxy:3128",
        "LANG": "C.UTF-8",
    }
    found = secrets_in(variables, {"LICENSE"})
    assert found == {"key-of-mine", "license-of-mine", "pass%20word"}
