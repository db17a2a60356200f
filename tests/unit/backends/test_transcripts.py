"""What the real CLIs printed, and what must be understood from it.

`tests/transcripts/<backend>/<scenario>.json` is what a CLI left, `expected.json` beside it the
fields of the `ParsedOutput` for each scenario. A new backend's folder is found by itself.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvk.backends import packaged_names
from clinvk.core.spec import ErrorKind
from tests import harness
from tests.unit.backends.commands import REGISTRY, parse

EXPECTATIONS = sorted(harness.TRANSCRIPTS.glob("*/expected.json"))
RECORDED = sorted({*harness.TRANSCRIPTS.glob("*/*.json")} - {*EXPECTATIONS})
BACKENDS = [path.parent.name for path in EXPECTATIONS]


def load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def parse_transcript(path: Path) -> dict[str, Any]:
    said = load(path)
    backend, scenario = said["backend"], said["scenario"]
    assert (backend, scenario) == (path.parent.name, path.stem)
    parsed = parse(backend, said["returncode"], said["stdout"].encode(), said["stderr"].encode())
    return dataclasses.asdict(parsed)


def test_each_transcript_has_its_expectation() -> None:
    recorded = {(path.parent.name, path.stem) for path in RECORDED}
    expected = {(path.parent.name, name) for path in EXPECTATIONS for name in load(path)}
    assert recorded == expected


def test_each_backend_of_clinvk_has_transcripts() -> None:
    project = tomllib.loads((harness.ROOT / "pyproject.toml").read_text())["project"]
    declared = project["entry-points"]["clinvk.backends"]
    assert [name for name in declared if not REGISTRY.get(name).is_demo] == BACKENDS


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_transcript(path: Path) -> None:
    expected = load(path.with_name("expected.json"))[path.stem]
    parsed = parse_transcript(path)
    assert {name: parsed[name] for name in expected} == expected
    is_ok = parsed["error_kind"] is None
    assert (parsed["output"] is not None, parsed["error"] is None) == (is_ok, is_ok)
    assert is_ok == ("error_kind" not in expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("returncode", [0, 1, -15])
def test_silence_is_failure(backend: str, returncode: int) -> None:
    answer = parse(backend, returncode, b"", b"")
    assert answer.error_kind is ErrorKind.FAILED
    assert answer.error


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_answer_with_a_bad_exit_code_is_failure(backend: str) -> None:
    said = load(harness.TRANSCRIPTS / backend / "success.json")
    assert parse(backend, 1, said["stdout"].encode(), b"").error_kind is not None


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
