"""Placeholders: what counts as one, and that each output is put in once, as it is."""

from __future__ import annotations

import re

import pytest

from clinvk.core.placeholders import Placeholder, fill, find, value_at


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("fix: {{previous}}", [("{{previous}}", None)]),
        ("{{ previous }}{{previous}}", [("{{ previous }}", None), ("{{previous}}", None)]),
        ("{{{previous}}}", [("{{previous}}", None)]),
        ("${{previous}}", [("{{previous}}", None)]),
        ("{{steps.a.output}}", [("{{steps.a.output}}", "a")]),
        ("{{steps.a b.1.output}}", [("{{steps.a b.1.output}}", "a b.1")]),
        ("{{ steps.größer.output }}", [("{{ steps.größer.output }}", "größer")]),
    ],
)
def test_placeholders(prompt: str, found: list[tuple[str, str | None]]) -> None:
    assert list(find(prompt)) == [Placeholder(text, step) for text, step in found]


@pytest.mark.parametrize(
    ("placeholder", "step", "path"),
    [
        ("{{steps.a.data}}", "a", ()),
        ("{{ steps.a b.1.data.found[0].line }}", "a b.1", ("found", 0, "line")),
        ("{{steps.a.data[1][2]}}", "a", (1, 2)),
        ("{{steps.a.data.output}}", "a", ("output",)),
        ("{{steps.a.data.data.x}}", "a", ("data", "x")),
    ],
)
def test_parts_of_answers(placeholder: str, step: str, path: tuple[str | int, ...]) -> None:
    assert list(find(placeholder)) == [Placeholder(placeholder, step, path)]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), '{"a": [1, {"b": "ö\\n"}], "n": null}'),
        (("a",), '[1, {"b": "ö\\n"}]'),
        (("a", 1, "b"), "ö\n"),
        (("n",), "null"),
    ],
)
def test_a_text_is_put_in_as_it_is_and_the_rest_as_json(
    path: tuple[str | int, ...], text: str
) -> None:
    assert value_at({"a": [1, {"b": "ö\n"}], "n": None}, path) == text


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("b",), "data.b"),
        (("a", 2), "data.a[2]"),
        (("a", "x"), "data.a.x"),
        (("a", 0, 0), "data.a[0][0]"),
        ((0,), "data[0]"),
    ],
)
def test_a_part_that_is_missing_is_named(path: tuple[str | int, ...], place: str) -> None:
    with pytest.raises(LookupError, match=f"there is no {re.escape(place)}$"):
        value_at({"a": ["x", 1]}, path)


@pytest.mark.parametrize(
    "prompt",
    [
        "{previous}",
        "{{ user.name }}",
        "{{}}",
        "{{ {previous} }}",
        "{{prev\0ious",
        "${{ steps.build.outputs.version }}",
        "previous steps session",
        '{"a": {"b": {}}}',
    ],
)
def test_other_braces_are_text(prompt: str) -> None:
    assert list(find(prompt)) == []


@pytest.mark.parametrize(
    "text",
    [
        *("{{previos}}", "{{Previous}}", "{{steps.a}}", "{{step.a.output}}"),
        *("{{steps.a.data.}}", "{{steps.a.data[x]}}", "{{steps.a.datax}}"),
    ],
)
def test_a_slip_is_told(text: str) -> None:
    (found,) = find(f"use {text}")
    assert found.problem == (
        f"{text} is not a placeholder (use {{{{previous}}}}, {{{{steps.<name>.output}}}} or "
        "{{steps.<name>.data.<path>}})"
    )


def test_there_are_no_sessions() -> None:
    (found,) = find("go on with {{session}}")
    assert found.problem == "{{session}} is not supported: each step runs in its own session"


@pytest.mark.parametrize(
    "output",
    ["", "{{previous}}", "{{steps.a.output}}", "\\1 \\g<0> $1 {0} %s", "}}{{", "größer\0\n" * 9],
)
def test_an_output_stays_as_it_is(output: str) -> None:
    outputs = {"{{previous}}": output, "{{steps.a.output}}": "A"}
    filled = fill("<{{previous}}|{{steps.a.output}}|{{previous}}|{{other}}>", outputs)
    assert filled == f"<{output}|A|{output}|{{{{other}}}}>"


def test_a_prompt_without_placeholders_stays_as_it_is() -> None:
    assert fill("{{previous}}", {}) == "{{previous}}"


def test_a_megabyte_is_put_in_whole() -> None:
    output = "{{previous}} größer\n" * 50_000
    assert fill("a{{previous}}b", {"{{previous}}": output}) == f"a{output}b"
