"""Task files: each form, and each problem with its place."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinvk.core.errors import TaskFileError
from clinvk.core.spec import TaskSpec
from clinvk.taskfile import reader, sources, unique
from clinvk.taskfile.schema import TASKS, ParsedFile, TaskFileHeader

BACKENDS = {"echo": True, "claude": True, "off": False}
KNOWN = "known: echo, claude"


def parse(text: str, name: str = "t.json") -> ParsedFile[TaskFileHeader]:
    return reader.parse(io.BytesIO(text.encode()), name, BACKENDS, TASKS)


def parse_file(path: str, stdin: io.BytesIO) -> ParsedFile[TaskFileHeader]:
    with sources.opened(path, stdin) as (stream, name):
        return reader.parse(stream, name, BACKENDS, TASKS)


def problems(text: str, name: str = "t.json") -> list[str]:
    with pytest.raises(TaskFileError) as caught:
        parse(text, name)
    assert all("\n" not in problem for problem in caught.value.problems)
    return list(caught.value.problems)


def task(**fields: object) -> str:
    return json.dumps({"tasks": [{"backend": "echo", "prompt": "x"} | fields]})


LINE = '{"backend": "echo", "prompt": "x"}'
TWO = [TaskSpec(backend="echo", prompt="x")] * 2


@pytest.mark.parametrize(
    ("name", "text", "places"),
    [
        ("t.json", f'{{"tasks": [{LINE}, {LINE}]}}', ["tasks[0]", "tasks[1]"]),
        ("t.json", f"[{LINE}, {LINE}]", ["[0]", "[1]"]),
        ("t.json", f"\ufeff[{LINE}, {LINE}]", ["[0]", "[1]"]),
        ("t.jsonl", f"{LINE}\n\n{LINE}\n", ["line 1", "line 3"]),
        ("t.json", f"{LINE}\r\n{LINE}\r\n", ["line 1", "line 2"]),
        ("t.yaml", f"tasks: [{LINE}, {LINE}]", ["tasks[0]", "tasks[1]"]),
        ("t.yml", "- {backend: echo, prompt: x}\n" * 2, ["[0]", "[1]"]),
        ("<stdin>", "tasks:\n" + "- {backend: echo, prompt: x}\n" * 2, ["tasks[0]", "tasks[1]"]),
    ],
)
def test_each_form(name: str, text: str, places: list[str], tmp_path: Path) -> None:
    path = tmp_path / name.strip("<>")
    path.write_bytes(text.encode())
    parsed = parse_file(str(path), io.BytesIO())
    assert list(parsed.tasks) == TWO
    assert list(parsed.sources) == [f"{path}: {source}" for source in places]


def test_options_of_the_file() -> None:
    parsed = parse(
        f'{{"tasks": [{LINE}], "max_parallel": 2, "fail_fast": false, "output_dir": "o"}}'
    )
    assert parsed.header == TaskFileHeader(max_parallel=2, fail_fast=False, output_dir="o")
    assert parse(f"[{LINE}]").header == TaskFileHeader()


def test_one_line_of_json_lines_is_a_file() -> None:
    assert list(parse(LINE, "t").sources) == ["t: line 1"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_json_lines_end_at_line_feeds_only(separator: str) -> None:
    first = json.dumps({"backend": "echo", "prompt": f"a{separator}b"}, ensure_ascii=False)
    parsed = parse(f"{first}\n{LINE}\n", "t.jsonl")
    assert [spec.prompt for spec in parsed.tasks] == [f"a{separator}b", "x"]


def test_every_broken_line_of_json_lines_is_named() -> None:
    broken = '{"backend": "echo"'
    assert problems(f'{broken}\n{LINE}\n{broken}\n{{"backend": "echo"}}', "t.jsonl") == [
        "t.jsonl: line 1: is not valid JSON: Expecting ',' delimiter at column 19",
        "t.jsonl: line 3: is not valid JSON: Expecting ',' delimiter at column 19",
        "t.jsonl: line 4: prompt: is required",
    ]


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ("tail", "line 2, column 1"),
        (f"\n  {LINE}", "line 3, column 3"),
        ("{", "line 2, column 1"),
        (f"{LINE}\n{LINE}\n]\n", "line 2, column 1"),
    ],
)
def test_what_follows_a_document_is_no_task(more: str, place: str) -> None:
    text = f"{LINE}\n{more}"
    with pytest.raises(json.JSONDecodeError) as pythons:
        json.loads(text)
    assert f"line {pythons.value.lineno}, column {pythons.value.colno}" == place
    assert problems(text) == [f"t.json: is not valid JSON: {pythons.value.msg} at {place}"]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("first", [f"{LINE}\n", "{\n", "- a\n", "\n", ""])
def test_a_byte_that_is_not_utf8_is_counted_from_the_beginning(first: str, start: bytes) -> None:
    stream = io.BytesIO(start + first.encode() + b"abc \xff")
    with pytest.raises(TaskFileError, match=rf"UTF-8 text \(byte {len(first) + 4}\)"):
        reader.parse(stream, "t", BACKENDS, TASKS)


def test_json_lines_are_looked_at_as_they_come() -> None:
    lines = (f"{LINE}\n".encode() for _ in range(3))
    resolved: list[int] = []

    def resolve(spec: TaskSpec) -> TaskSpec:
        resolved.append(sum(1 for _ in lines))  # takes what is left of the stream
        return dataclasses.replace(spec, model="m")

    parsed = reader.parse(lines, "t", BACKENDS, TASKS, resolve)
    assert resolved == [1, 0]  # only the second one has been read, to know what the file is
    assert [spec.model for spec in parsed.tasks] == ["m", "m"]
    assert list(parsed.backends) == ["echo"]


def test_places_are_a_sequence() -> None:
    locations = parse(f"\n{LINE}\n\n{LINE}\n{LINE}").sources
    assert locations[:2] == ["t.json: line 2", "t.json: line 4"]
    assert (locations[-1], len(locations)) == ("t.json: line 5", 3)


def test_the_beginning_of_a_document_is_not_json_lines() -> None:
    assert problems('{\n  "tasks": [\n    {"backend": "echo",') == [
        (
            "t.json: is not valid JSON: Expecting property name enclosed in double quotes"
            " at line 3, column 24 (is the file truncated?)"
        )
    ]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000])
def test_numbers_without_an_end_are_refused(number: str) -> None:
    text = task(timeout_seconds=0).replace("0", number)
    assert problems(text) == ["t.json: tasks[0].timeout_seconds: must be a finite number"]


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan"])
def test_numbers_without_an_end_are_refused_in_yaml(number: str) -> None:
    text = f"- {{backend: echo, prompt: x, timeout_seconds: {number}}}"
    assert problems(text, "t.yaml") == ["t.yaml: [0].timeout_seconds: must be a finite number"]


def test_a_field_with_one_problem_does_not_hide_another_field() -> None:
    assert problems(task(model="a\0", workdir="\0", max_turns=0, modle="x")) == [
        "t.json: tasks[0].model: must not contain a NUL character",
        "t.json: tasks[0].workdir: must not contain a NUL character",
        "t.json: tasks[0].max_turns: must be >= 1 (got 0)",
        't.json: tasks[0].modle: unknown field, did you mean "model"?',
    ]


def test_a_nul_in_the_prompt_is_fine() -> None:
    assert parse(task(prompt="a\0b")).tasks[0].prompt == "a\0b"


def test_half_of_a_surrogate_pair_is_named_once() -> None:
    assert problems(task(tags=["\ud800", "\ud801"], meta={"\udc00": "x"})) == [
        "t.json: tasks[0].tags: has an unpaired surrogate",
        "t.json: tasks[0].meta: has an unpaired surrogate",
    ]


def test_deep_nesting_is_told_in_one_line() -> None:
    deep = '{"a":' * 300 + "1" + "}" * 300
    assert problems(task(meta=0).replace("0", deep)) == ["t.json: tasks[0]: is nested too deeply"]
    deep = "[" * 100_000
    assert problems(task(meta=0).replace("0", deep)) == ["t.json: is nested too deeply"]


def test_values_that_only_yaml_has() -> None:
    text = "- {backend: echo, prompt: 2025-01-01, 3: x}\n- {backend: echo, prompt: !!binary eA==}"
    assert problems(text, "t.yaml") == [
        "t.yaml: [0]: has a value that JSON cannot represent: 2025-01-01",
        "t.yaml: [1]: has a value that JSON cannot represent: b'x'",
    ]


@pytest.mark.parametrize("access", ["on", "off"])
def test_the_network_may_be_on_and_off_as_yaml_reads_it(access: str) -> None:
    text = f"[{{backend: echo, prompt: x, network: {access}}}]"
    (found,) = parse(text, "t.yaml").tasks
    assert found.network == access


def test_backends() -> None:
    off, nearest = problems(f"[{LINE.replace('echo', 'off')}, {LINE.replace('echo', 'clade')}]")
    assert off.endswith('"off" is disabled in the configuration (backends.off.enabled)')
    assert nearest.endswith(f'unknown backend "clade", did you mean "claude"? ({KNOWN})')


def test_ids_of_which_the_numbers_agree_are_not_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unique, "hash", len, raising=False)
    one, two, three = (f'{{"backend": "echo", "prompt": "x", "id": "{at}"}}' for at in "abc")
    assert len(parse(f"{one}\n{two}\n{three}").tasks) == 3
    assert problems(f"{one}\n{two}\n{two}") == ['t.json: line 3: id "b" is already used by line 2']


def test_ids_are_unique() -> None:
    one = '{"backend": "echo", "prompt": "x", "id": "a"}'
    assert problems(f"{one}\n{LINE}\n{one}\n{one}") == [
        't.json: line 3: id "a" is already used by line 1',
        't.json: line 4: id "a" is already used by line 1',
    ]


def test_a_file_may_be_called_like_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("<stdin>").write_text(LINE)
    piped = io.BytesIO(f"{LINE}\n{LINE}".encode())
    assert len(parse_file("<stdin>", piped).tasks) == 1
    assert len(parse_file("-", piped).tasks) == 2


PIECES = [*'{}[],:"\\\n-&*|>?%~ \t\0', "tasks", "backend", '"echo"', '"x"', "null", "1e999", "NaN"]
PIECES += ["- ", "&a ", "*a", "<<: ", "!!binary ", "---\n", "\u2028", "\\ud800", ".inf", "9" * 20]
FILES = [
    f'{{"tasks": [{LINE}], "max_parallel": 3}}',
    f"{LINE}\n{LINE}\n",
    "tasks:\n- backend: echo\n  prompt: x\n  tags: [a, b]\n",
]


@settings(max_examples=100)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(FILES))
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 4, len(text))))
        text = text[:start] + data.draw(st.sampled_from(["", *PIECES])) + text[end:]
    name = data.draw(st.sampled_from(["t.json", "t.yaml", "<stdin>"]))
    try:
        parsed = parse(text, name)
    except TaskFileError as error:
        refused = [problem.startswith(f"{name}: ") for problem in error.problems]
    else:
        refused = []
        assert [TaskSpec.from_wire(spec.to_wire()) for spec in parsed.tasks] == list(parsed.tasks)
        assert len(parsed.tasks) == len(parsed.sources) > 0
    assert all(refused)


def test_the_top_level_says_where_tasks_work() -> None:
    text = (
        '{"workspace": "worktree", "setup": "npm ci", "tasks": ['
        '{"backend": "echo", "prompt": "x"},'
        '{"backend": "echo", "prompt": "x", "workspace": "shared", "setup": null}]}'
    )
    assert [(task.workspace, task.setup) for task in parse(text).tasks] == [
        ("worktree", "npm ci"),
        ("shared", None),
    ]
    for wrong in ('"workspace": "own"', '"setup": " "', '"setup_timeout_seconds": 0'):
        with pytest.raises(TaskFileError):
            parse("{" + wrong + f', "tasks": [{LINE}]}}')
