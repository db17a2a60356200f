"""A task file between a model's words: `clinvk parallel --lenient`."""

from __future__ import annotations

import io
import json

import pytest

from clinvk.core.errors import TaskFileError
from clinvk.taskfile import reader
from clinvk.taskfile.schema import TASKS

TASK = '{"backend": "echo", "prompt": "x"}'
FILE = f'{{"tasks": [{TASK}], "max_parallel": 2}}'
PRETTY = json.dumps(json.loads(FILE), indent=2)


def parse(text: str, *, is_lenient: bool = True) -> tuple[list[str], int | None]:
    stream = io.BytesIO(text.encode())
    parsed = reader.parse(stream, "<stdin>", {"echo": True}, TASKS, is_lenient=is_lenient)
    return [spec.prompt for spec in parsed.tasks], parsed.header.max_parallel


@pytest.mark.parametrize(
    "text",
    [
        FILE,
        f"```json\n{PRETTY}\n```",
        f"```\n{PRETTY}\n```\n",
        f"~~~json\n{PRETTY}\n~~~",
        f"````json\r\n{PRETTY}\r\n````\r\n",
        f"Sure: here is the file.\n\n  ```json\n{PRETTY}\n  ```\n\nShall I [1] run {{it}}?\n",
        f"Here it is:\n{PRETTY}\nRun it.",
        f"Here it is: `{FILE}`",
        f"```json {FILE}```",
        f"Install it:\n```sh\nnpm install\n```\nthen\n```json\n{PRETTY}\n```",
        f"```sh\nclinvk parallel\n```\nreads {FILE}",
        f"```json\n{PRETTY}",
        f"```yaml\nmax_parallel: 2\ntasks: [{TASK}]\n```",
        f"max_parallel: 2\ntasks: [{TASK}]\n",
    ],
)
def test_it_is_found(text: str) -> None:
    assert parse(text) == (["x"], 2)


def test_json_lines_stay_together() -> None:
    lines = "".join(TASK.replace("x", name) + "\n" for name in "abc")
    assert parse(f"Three tasks:\n{lines}Good luck!") == (["a", "b", "c"], None)
    assert parse(f"```jsonl\n{lines}```") == (["a", "b", "c"], None)


def test_fences_in_a_prompt_are_the_prompts() -> None:
    prompt = "Use\n```json\n{}\n```\nonly"
    text = json.dumps({"tasks": [{"backend": "echo", "prompt": prompt}]}, indent=1)
    assert parse(f"So:\n```json\n{text}\n```") == ([prompt], None)


def problem(text: str) -> str:
    with pytest.raises(TaskFileError) as caught:
        parse(text)
    return str(caught.value)


def test_what_is_cut_off_is_not_run_in_part() -> None:
    cut = f'Here:\n\n{{"tasks": [{TASK}, {TASK}, {{"backend": "ec'
    assert problem(cut) == (
        "<stdin>: is not valid JSON: Unterminated string starting at line 3, column 96"
        " (is the file truncated?)"
    )
    assert problem(cut.replace("Here:\n", "Here:\n```json")).endswith("(is the file truncated?)")


def test_two_of_them_are_one_too_many() -> None:
    text = f"Either\n```json\n{FILE}\n```\nor\n```json\n{FILE}\n```\n"
    assert problem(text) == "<stdin>: has 2 passages that could be the task file: keep one"


def test_where_there_is_none_it_is_told() -> None:
    assert problem("I cannot do that.") == (
        '<stdin>: must be an object with a list of "tasks" (got "I cannot do that.")'
    )


def test_what_is_wrong_has_its_place() -> None:
    wrong = TASK.replace("prompt", "promt")
    assert problem(f"```json\n[{wrong}]\n```") == (
        "<stdin>: [0].prompt: is required\n"
        '<stdin>: [0].promt: unknown field, did you mean "prompt"?'
    )


def test_it_has_to_be_asked_for() -> None:
    with pytest.raises(TaskFileError):
        parse(f"```json\n{FILE}\n```", is_lenient=False)
