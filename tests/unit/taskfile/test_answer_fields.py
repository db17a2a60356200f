"""`schema` and `verify` of task files: paths, schemas themselves, commands, and what is wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.errors import TaskFileError
from clinvk.core.spec import TaskSpec
from clinvk.taskfile import reader
from clinvk.taskfile.schema import TASKS

SCHEMA = {"type": "object", "required": ["n"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "bad.json").write_text('{"properties": {"a": {"type": "nosuch"}}}')
    (tmp_path / "broken.json").write_text('{"type":\n  "object",}')
    (tmp_path / "twice.json").write_text('{"type": "object", "type": "array"}')
    (tmp_path / "latin.json").write_bytes(b'{"title": "\xe9"}')
    (tmp_path / "folder").mkdir()
    return tmp_path


def parse(folder: Path, *tasks: dict[str, Any], **header: Any) -> list[TaskSpec]:
    document = {"tasks": [{"backend": "echo", "prompt": "x"} | task for task in tasks], **header}
    stream = io.BytesIO(json.dumps(document).encode())
    return list(reader.parse(stream, str(folder / "t.json"), {"echo": True}, TASKS).tasks)


def problems(folder: Path, *tasks: dict[str, Any], **header: Any) -> list[str]:
    with pytest.raises(TaskFileError) as error:
        parse(folder, *tasks, **header)
    return [problem.removeprefix(f"{folder}/t.json: ") for problem in error.value.problems]


def test_a_schema_by_its_path_or_itself(folder: Path) -> None:
    beside, inline, absolute, none = parse(
        folder,
        {"schema": "good.json"},
        {"schema": {"type": "array"}},
        {"schema": str(folder / "good.json")},
        {},
    )
    assert (beside.schema, inline.schema) == (SCHEMA, {"type": "array"})
    assert (absolute.schema, none.schema) == (SCHEMA, None)
    assert TaskSpec.from_wire(beside.to_wire()) == beside


def test_commands(folder: Path) -> None:
    line, argv = parse(folder, {"verify": "pytest -q && true"}, {"verify": ["pytest", "-q"]})
    assert line.verify == ["/bin/sh", "-c", "pytest -q && true"]
    assert argv.verify == ["pytest", "-q"]


def test_what_the_file_says_is_the_default_of_its_tasks(folder: Path) -> None:
    own = {"schema": None, "verify": "make", "schema_repairs": 0}
    header = {"schema": "good.json", "verify": "true", "schema_repairs": 3}
    task, other = parse(folder, {}, own, **header)
    assert (task.schema, task.verify, task.most_repairs) == (SCHEMA, ["/bin/sh", "-c", "true"], 3)
    assert (other.schema, other.verify, other.most_repairs) == (None, ["/bin/sh", "-c", "make"], 0)


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ("none.json", "none.json: no such file"),
        ("folder", "folder: is not a file"),
        ("latin.json", "latin.json: is not UTF-8 text (byte 11)"),
        ("twice.json", 'twice.json: duplicate key in object: "type"'),
        ({"properties": {"a": {"minimum": "x"}}}, 'properties.a.minimum: "x" is not of type'),
        ("bad.json", "bad.json: properties.a.type: must be array, boolean, integer, null, "),
        ("broken.json", "broken.json: is not valid JSON: "),
        (4, "must be a mapping (got 4)"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_schema(folder: Path, schema: Any, problem: str) -> None:
    (found,) = problems(folder, {}, {"schema": schema})
    assert found.startswith(f"tasks[1].schema: {problem}")


def test_what_is_wrong_at_the_top_is_told_once(folder: Path) -> None:
    found = problems(folder, {}, {}, schema="none.json", verify=" ", verfy_retries=1)
    assert found == [
        'verfy_retries: unknown field, did you mean "verify_retries"?',
        "schema: none.json: no such file",
        'verify: must not be blank (got " ")',
    ]


def test_wrong_types_at_the_top(folder: Path) -> None:
    assert problems(folder, {}, schema=4, verify=5) == [
        "schema: must be a mapping (got 4)",
        "verify: must be a list (got 5)",
    ]


def test_what_is_wrong_with_a_command(folder: Path) -> None:
    commands: list[Any] = ["", [], ["a\0"], {"a": 1}]
    assert problems(folder, *({"verify": each} for each in commands)) == [
        'tasks[0].verify: must not be blank (got "")',
        "tasks[1].verify: must not be empty (got [])",
        "tasks[2].verify: must not contain a NUL character",
        'tasks[3].verify: must be a list (got {"a": 1})',
    ]
