"""Placeholders: what counts as one, and that each output is put in once, as it is."""

from __future__ import annotations

import pytest

from clinvk.core.placeholders import Placeholder, fill, find


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
    "text", ["{{previos}}", "{{Previous}}", "{{steps.a}}", "{{step.a.output}}"]
)
def test_a_slip_is_told(text: str) -> None:
    (found,) = find(f"use {text}")
    assert found.problem == (
        f"{text} is not a placeholder (use {{{{previous}}}} or {{{{steps.<name>.output}}}})"
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
