"""Tasks made of one prompt and many things."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvk.core.errors import TaskFileError, UsageError
from clinvk.taskfile import each, reader
from clinvk.taskfile.schema import TASKS


def tasks(things: Any, prompt: str) -> list[Any]:
    lines = each.task_lines(things, prompt, {"backend": "echo"})
    parsed = reader.parse(lines, "--each", {"echo": True}, TASKS)
    return [(spec.prompt, spec.name, spec.meta) for spec in parsed.tasks]


def of_lines(text: str, prompt: str, name: str = "x.txt") -> list[Any]:
    return tasks(each.lines(io.BytesIO(text.encode()), name, prompt), prompt)


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.py", "src/b.py", "src/deep/c.py", "src/d.txt", ".hidden/e.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name} {{file}}")
    return tmp_path


def test_a_task_for_each_file() -> None:
    prompt = "{file} {stem} {{file}} {}: {content}"
    found = tasks(each.files(["src/**/*.py", "**/*.py"], prompt), prompt)
    assert found == [
        (
            f"{path} {stem} {{file}} {{}}: text of {path} {{file}}",
            path,
            {"file": path, "stem": stem},
        )
        for path, stem in [("src/b.py", "b"), ("src/deep/c.py", "c"), ("a.py", "a")]
    ]


def test_one_file_is_a_task_file_too() -> None:
    assert [name for _, name, _ in tasks(each.files(["a.py"], "x"), "x")] == ["a.py"]


def test_no_file() -> None:
    with pytest.raises(TaskFileError, match=r"^--each: no file matches src or \*.rs$"):
        tasks(each.files(["src", "*.rs"], "x"), "x")


def test_all_files_that_are_no_text_are_told(tree: Path) -> None:
    for name in ("1.bin", "2.bin"):
        (tree / name).write_bytes(b"ab\xff")
    assert len(tasks(each.files(["*.bin"], "{file}"), "{file}")) == 2
    with pytest.raises(TaskFileError) as raised:
        tasks(each.files(["*"], "{content}"), "{content}")
    assert [*raised.value.problems] == [f"{n}.bin: is not UTF-8 text (byte 2)" for n in (1, 2)]


def test_a_task_for_each_line() -> None:
    assert of_lines("one {x}\r\n\n \n two", "say {line}!") == [
        ("say one {x}!", "one {x}", {"line": "one {x}"}),
        ("say  two!", "two", {"line": " two"}),
    ]


def test_a_task_for_each_row() -> None:
    text = '\ufeffcity,say\nRome,"a,\nb"\nParis\n'
    assert of_lines(text, "{city}: {say}", "x.CSV") == [
        ("Rome: a,\nb", "Rome", {"city": "Rome", "say": "a,\nb"}),
        ("Paris: ", "Paris", {"city": "Paris", "say": ""}),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a\n1,2\n", "x.csv: line 2: has more cells than the header"),
        ('a\n"1', "x.csv: line 1: is not valid CSV: unexpected end of data"),
        ("a\n", "--each: is empty"),
        ("", "--each: is empty"),
    ],
)
def test_a_csv_file_that_cannot_be_used(text: str, problem: str) -> None:
    with pytest.raises(TaskFileError) as raised:
        of_lines(text, "x", "x.csv")
    assert [*raised.value.problems] == [problem]


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (
            "{lin}",
            'the prompt has {lin}, did you mean "line"? (known: {line}; for the text itself ',
        ),
        ("{zzz} {yyy}", "the prompt has {yyy} (known: {line}; for the text itself write {{yyy}})"),
    ],
)
def test_a_name_that_is_not_known(prompt: str, problem: str) -> None:
    with pytest.raises(UsageError) as raised:
        of_lines("x\n", prompt)
    assert problem in str(raised.value)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), st.text("{}ab\n"), min_size=1))
def test_values_are_taken_as_they_are(values: dict[str, str]) -> None:
    names = list(values)
    prompt = "|".join(f"{{{name}}}" for name in names)
    assert each.filled(prompt, values) == "|".join(values[name] for name in names)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_lines_are_json(count: int) -> None:
    things = [(str(n), {"x": "\ud800"}) for n in range(count)]
    lines = list(each.task_lines(things, "{x}", {}))
    assert len(lines) == count
    assert all(json.loads(line) for line in lines)
