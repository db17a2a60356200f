"""The files of chains: each form, what steps take from each other, each problem with its place."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from clinvk.core.errors import TaskFileError
from clinvk.core.spec import TaskSpec
from clinvk.taskfile import chain, reader
from clinvk.taskfile.chain import ChainFileHeader
from clinvk.taskfile.schema import TASKS, ParsedFile, TaskFileHeader

BACKENDS = {"echo": True}


def step(prompt: str = "x", **fields: Any) -> dict[str, Any]:
    return {"backend": "echo", "prompt": prompt, **fields}


def parse(*steps: Any, **options: Any) -> ParsedFile[ChainFileHeader]:
    return steps_of(json.dumps({"steps": steps, **options}), "p.json", BACKENDS)


def steps_of(text: str, name: str, backends: dict[str, bool]) -> ParsedFile[ChainFileHeader]:
    return chain.parse(io.BytesIO(text.encode()), name, backends)


def tasks_of(text: str, name: str, backends: dict[str, bool]) -> ParsedFile[TaskFileHeader]:
    return reader.parse(io.BytesIO(text.encode()), name, backends, TASKS)


def problems(*steps: Any, **options: Any) -> list[str]:
    with pytest.raises(TaskFileError) as caught:
        parse(*steps, **options)
    return [problem.removeprefix("p.json: ") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("name", "text", "source"),
    [
        ("p.json", json.dumps({"steps": [step(), step()]}), "steps[1]"),
        ("p.yaml", "steps:\n" + "- {backend: echo, prompt: x}\n" * 2, "steps[1]"),
        ("<stdin>", "steps:\n" + "- {backend: echo, prompt: x}\n" * 2, "steps[1]"),
        ("p.json", json.dumps([step(), step()]), "[1]"),
        ("p.jsonl", f"{json.dumps(step())}\n" * 2, "line 2"),
    ],
)
def test_each_form(name: str, text: str, source: str) -> None:
    parsed = steps_of(text, name, BACKENDS)
    assert parsed.tasks == [TaskSpec(backend="echo", prompt="x")] * 2
    assert parsed.sources[1] == f"{name}: {source}"
    assert parsed.header == ChainFileHeader()


def test_options_of_the_file() -> None:
    chain = parse(step(), stop_on_failure=False, output_dir="o")
    assert chain.header == ChainFileHeader(stop_on_failure=False, output_dir="o")


def test_what_each_step_takes() -> None:
    chain = parse(
        step(name="a"),
        step("{{previous}} {{ previous }}"),
        step("{{steps.a.output}} {{previous}} {{steps.a.output}}", name="c"),
        step("{{other}}"),
    )
    assert [one.inputs for one in chain.tasks] == [
        {},
        {"{{previous}}": 0, "{{ previous }}": 0},
        {"{{steps.a.output}}": 0, "{{previous}}": 1},
        {},
    ]


def test_only_the_prompt_is_a_template() -> None:
    chain = parse(step(system_prompt="{{previous}}", model="{{session}}", meta={"a": "{{steps}}"}))
    assert chain.tasks[0].inputs == {}


@pytest.mark.parametrize(
    ("passed", "workdirs"),
    [(True, [None, "/a", "/a", "/b", "/b"]), (False, [None, "/a", None, "/b", None])],
)
def test_working_directories_are_passed_on_if_asked(passed: bool, workdirs: list[str]) -> None:
    own = [{}, {"workdir": "/a"}, {}, {"workdir": "/b"}, {}]
    chain = parse(*(step(**fields) for fields in own), pass_working_dir=passed)
    assert [one.workdir for one in chain.tasks] == workdirs


FIRST = "cannot be used in the first step: no step comes before it"


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([step("{{previous}}")], f"steps[0].prompt: {{{{previous}}}} {FIRST}"),
        (
            [step("{{steps.a.output}}", name="a")],
            f"steps[0].prompt: {{{{steps.a.output}}}} {FIRST}",
        ),
        (
            [step(), step("{{steps.a.output}}", name="a")],
            'steps[1].prompt: {{steps.a.output}}: "a" is this step, and has no output yet',
        ),
        (
            [step(), step("{{steps.b.output}}"), step(name="b")],
            'steps[1].prompt: {{steps.b.output}}: "b" is a later step, and has no output yet',
        ),
        (
            [step(name="analyze"), step("{{steps.analyse.output}}")],
            (
                'steps[1].prompt: {{steps.analyse.output}}: there is no step "analyse", '
                'did you mean "analyze"?'
            ),
        ),
        (
            [step(name=""), step("{{steps..output}}")],
            'steps[1].prompt: {{steps..output}}: there is no step ""',
        ),
        (
            [step(), step("{{session}}")],
            "steps[1].prompt: {{session}} is not supported: each step runs in its own session",
        ),
        ([step(name="a"), step(name="a")], 'steps[1]: name "a" is already used by steps[0]'),
        ([step(inputs={"x": 0})], "steps[0].inputs: unknown field"),
        ([step(promt="x")], 'steps[0].promt: unknown field, did you mean "prompt"?'),
        ([], "has no steps"),
    ],
)
def test_problems(steps: list[Any], problem: str) -> None:
    assert problems(*steps) == [problem]


def test_parts_of_an_answer_need_a_schema() -> None:
    schema = {"type": "object"}
    uses = step("{{steps.a.data.n}}")
    (_, second) = parse(step(name="a", schema=schema), uses).tasks
    assert second.inputs == {"{{steps.a.data.n}}": 0}
    assert parse(step(name="a"), uses, schema=schema).tasks[1].inputs
    why = '{{steps.a.data.n}}: "a" has no schema, and so no data'
    assert problems(step(name="a"), uses) == [f"steps[1].prompt: {why}"]
    found = problems(step(name="a", schema=None), uses, schema=schema)
    assert found == [f"steps[1].prompt: {why}"]


def test_all_that_is_wrong_is_said_at_once_and_each_once() -> None:
    found = problems(
        step("{{previous}} {{previous}}", max_turns=0),
        3,
        {"backend": "echo", "prompt": 4, "name": 5},
        stop_on_failur=False,
    )
    assert found == [
        'stop_on_failur: unknown field, did you mean "stop_on_failure"?',
        "steps[0].max_turns: must be >= 1 (got 0)",
        "steps[1]: must be an object (got 3)",
        "steps[2].prompt: must be a string (got 4)",
        "steps[2].name: must be a string (got 5)",
        f"steps[0].prompt: {{{{previous}}}} {FIRST}",
    ]


def test_a_problem_in_json_lines_names_its_line() -> None:
    with pytest.raises(TaskFileError) as caught:
        steps_of(json.dumps(step("{{previous}}")), "p", BACKENDS)
    assert caught.value.problems == (f"p: line 1: prompt: {{{{previous}}}} {FIRST}",)


@pytest.mark.parametrize(
    ("parser", "text", "problem"),
    [
        (steps_of, '{"tasks": []}', "has tasks, not steps: run it with clinvk parallel"),
        (tasks_of, '{"steps": []}', "has steps, not tasks: run it with clinvk chain"),
        (steps_of, '{"tasks": [], "steps": [3]}', "tasks: unknown field"),
    ],
)
def test_tasks_and_steps_are_told_apart(parser: Any, text: str, problem: str) -> None:
    with pytest.raises(TaskFileError) as caught:
        parser(text, "t", BACKENDS)
    assert caught.value.problems[0] == f"t: {problem}"


def test_tasks_have_no_inputs_of_their_own() -> None:
    with pytest.raises(TaskFileError, match=r"^t: \[0\]\.inputs: unknown field$"):
        tasks_of(json.dumps([step(inputs={})]), "t", BACKENDS)
