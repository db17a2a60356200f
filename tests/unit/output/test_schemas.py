"""The JSON schemas in docs/reference: current, and true of what clinvk prints and reads."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from clinvk.core.changes import Changes, Commit
from clinvk.core.errors import TaskFileError
from clinvk.core.spec import (
    Enforcement,
    ErrorKind,
    TaskResult,
    TaskSpec,
    TaskStatus,
    Try,
    Usage,
    Verification,
)
from clinvk.output import documents
from clinvk.taskfile import reader
from clinvk.taskfile.schema import TASKS
from tests import documents as documents_of_tests
from tests.harness import ROOT
from tools import schemas

RESULTS, TASK_FILE = schemas.results(), schemas.task_file()
EXAMPLES = {
    path.name: yaml.safe_load(path.read_text())
    for path in sorted((ROOT / "examples").iterdir())
    if path.suffix in {".json", ".yaml"}
}
TASK = {"backend": "echo", "prompt": "x"}
FULL = documents.entry(
    TaskSpec(backend="echo", prompt="x", id="i", name="n", tags=["t"], meta={"a": "b"}),
    TaskResult(
        index=0,
        status=TaskStatus.OK,
        exit_code=0,
        duration_seconds=1.5,
        output="",
        output_file="/f",
        data={"n": 1},
        verify=Verification(exit_code=0, output="1 passed"),
        repairs=1,
        error="e",
        error_kind=ErrorKind.FAILED,
        retry_at="2026-01-02T03:04:05.678Z",
        acted=False,
        waited_seconds=1.5,
        rejections=1,
        tried=[
            Try(
                backend="echo",
                error="e",
                error_kind=ErrorKind.RATE_LIMITED,
                usage=Usage(input_tokens=2, cached_input_tokens=1),
                cost_usd=0.1,
                cost_source="estimated",
            )
        ],
        worker="w@h",
        sandbox=Enforcement(mode="read-only", by="landlock", gaps=["metadata"]),
        model="m",
        session_id="s",
        usage=Usage(input_tokens=1),
        cost_usd=0.1,
        cost_source="cli",
        reused="20260102-030405-abcdef01/3",
        changes=Changes(
            base="b",
            start="s",
            tree="t",
            changed_files=["f"],
            commits=[Commit(sha="c", author="a", message="m")],
            patch="p",
            kept="/k",
        ),
        warnings=["w"],
        start_time="2026-01-02T03:04:05.678Z",
        end_time="2026-01-02T03:04:05.678Z",
    ),
)


def document(*entries: Any) -> dict[str, Any]:
    """A whole document, of values as JSON has them."""
    head = {name: 0 for name in schemas.HEAD if not name.endswith(("_id", "_time"))}
    times = dict.fromkeys(("start_time", "end_time"), "2026-01-02T03:04:05.678Z")
    return dict(json.loads(json.dumps({"run_id": "r", **head, **times, "results": entries})))


def is_valid(value: Any, schema: Any) -> bool:
    checker = jsonschema.Draft202012Validator
    checker.check_schema(schema)
    return bool(checker(schema, format_checker=checker.FORMAT_CHECKER).is_valid(value))


@pytest.mark.parametrize("name", schemas.schemas())
def test_a_schema_is_current(name: str) -> None:
    written = (schemas.REFERENCE / name).read_text(encoding="utf-8")
    assert written == schemas.text(schemas.schemas()[name]), "run `python -m tools.schemas`"


def test_an_entry_with_every_key_fits() -> None:
    assert set(FULL) == set(RESULTS["$defs"]["Entry"]["properties"])
    assert is_valid(document(FULL), RESULTS)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "okay"},
        {"exit_code": "0"},
        {"error_kind": "none"},
        {"usage": {"input_tokens": "1"}},
        {"output": None},
    ],
    ids=str,
)
def test_what_is_no_entry_does_not_fit(change: dict[str, Any]) -> None:
    assert not is_valid(document(FULL | change), RESULTS)


@pytest.mark.parametrize("key", sorted(documents.ALWAYS))
def test_no_entry_goes_without_what_each_has(key: str) -> None:
    assert not is_valid(document({name: FULL[name] for name in FULL if name != key}), RESULTS)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if "tasks" in EXAMPLES[name]])
def test_the_examples_fit(name: str) -> None:
    assert is_valid(EXAMPLES[name], TASK_FILE)


@pytest.mark.parametrize(
    "value",
    [
        [TASK],
        {"tasks": [TASK], "max_parallel": 2, "fail_fast": True, "output_dir": "o"},
        {"tasks": [TASK | {"model": None, "timeout_seconds": 0.5, "tags": ["a"]}]},
        [],
        {"tasks": []},
        {"tasks": [TASK], "max_parallel": 0},
        {"tasks": [TASK], "jobs": 1},
        [{"backend": "echo"}],
        [TASK | {"prompt": " \n"}],
        [TASK | {"model": " "}],
        [TASK | {"max_turns": 0}],
        [TASK | {"timeout_seconds": 0}],
        [TASK | {"approval_mode": "yolo"}],
        [TASK | {"inputs": {}}],
        [TASK | {"meta": {"a": 1}}],
        [TASK | {"promt": "x"}],
        [TASK | {"schema": {"type": "object"}, "schema_repairs": 0, "verify": "true"}],
        {"tasks": [TASK], "schema": {}, "verify": ["test", "-e", "x"], "verify_retries": 1},
        [TASK | {"schema": []}],
        [TASK | {"verify": []}],
        {"tasks": [TASK], "verify": " "},
    ],
    ids=str,
)
def test_a_task_file_fits_exactly_if_clinvk_reads_it(value: Any) -> None:
    try:
        reader.parse([json.dumps(value).encode()], "t.json", {"echo": True}, TASKS)
        is_read = True
    except TaskFileError:
        is_read = False
    assert is_valid(value, TASK_FILE) == is_read


@pytest.mark.parametrize("name", schemas.documents_of_commands()["$defs"])
def test_a_document_of_a_command_refuses_what_its_schema_does_not_name(
    name: str,
) -> None:
    schema = {**schemas.documents_of_commands(), "$ref": f"#/$defs/{name}"}
    assert not jsonschema.Draft202012Validator(schema).is_valid("a text")


def test_the_schema_of_the_documents_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(schemas.documents_of_commands())


def test_a_key_that_is_not_described_is_a_mistake() -> None:
    documents_of_tests.check(["parallel", "--json"], json.dumps(document(FULL)))
    with pytest.raises(jsonschema.ValidationError, match="speed"):
        documents_of_tests.check(["parallel", "--json"], json.dumps(document(FULL | {"speed": 1})))
