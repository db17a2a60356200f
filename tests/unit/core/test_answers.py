"""Answers by a schema: found in a CLI's words, parsed strictly, never taken if not valid."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinvk.core import answers, schemas
from clinvk.core.answers import Answer, SchemaError

SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "found": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"line": {"type": "integer"}},
                "required": ["line"],
            },
        },
    },
    "required": ["n"],
}


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"n": 1}', {"n": 1}),
        ('\ufeff {"n": 1}\n'.lstrip("\ufeff"), {"n": 1}),
        ('Here you are:\n```json\n{"n": 1}\n```\nBye {"n"}', {"n": 1}),
        ('I found it: {"n": 1, "found": []}. Good luck!', {"n": 1, "found": []}),
        ('```\n{"n": "no"}\n```\nSorry, I mean\n```\n{"n": 2}\n```', {"n": 2}),
        ('{"n": 1}\nonce more:\n{"n": 1}', {"n": 1}),
    ],
)
def test_the_json_is_found(text: str, data: Any) -> None:
    assert answers.read(text, SCHEMA) == Answer(data)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no JSON in it"),
        ("I am sorry", "has no JSON in it"),
        ('{"n": 1', "has no JSON in it"),
        ('{"n": "x"}', 'n: "x" is not of type "integer"'),
        ("[1]", '[1] is not of type "object"'),
        ('{"n": 1, "found": [{"line": 1}, {}]}', 'found[1]: "line" is a required property'),
        ('a {"n": 1} b {"n": 2}', "has 2 different JSON values that fit: keep one"),
        ('{"n": 1, "n": 2}', 'duplicate key in object: "n"'),
        ('{"n": 1, "x": NaN}', "NaN is not valid in JSON"),
        ('{"n": 1, "x": 1e999}', "has a number that is too large"),
        (f'{{"n": {"9" * 400}}}', "has a number that is too large"),
        ('{"n": 1, "x": "\\ud800"}', "has half of a surrogate pair"),
        (f'{{"n": 1, "x": {"[" * 150}{"]" * 150}}}', "is nested too deeply"),
        (f'{{"n": 1, "x": {"[" * 5000}{"]" * 5000}}}', "is nested too deeply"),
        (f'{{"n": 1, "x": "{"x" * (1 << 20)}"}}', "is 1048593 bytes of JSON, and may have 1048576"),
    ],
    ids=lambda text: text[:30],
)
def test_what_is_wrong_is_told(text: str, problem: str) -> None:
    answer = answers.read(text, SCHEMA)
    assert (answer.data, answer.problems[0]) == (None, problem)


def test_a_problem_is_one_short_line() -> None:
    (problem,) = answers.read(json.dumps({"n": "a\n" * 9999}), SCHEMA).problems
    assert len(problem) <= answers.LONGEST_PROBLEM + 1
    assert "\n" not in problem
    assert problem.endswith('is not of type "integer"')


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ([], "must be an object"),
        (
            {"properties": {"a": {"minimum": "x"}}},
            'properties.a.minimum: "x" is not of type "number"',
        ),
        ({"pattern": "("}, 'pattern: "(" is not a "regex"'),
        ({"$ref": "http://localhost:1/x"}, "$ref http://localhost:1/x is not in it, and is not"),
        ({"$ref": "#/$defs/none"}, "Pointer '/$defs/none' does not exist"),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#"},
            f"$schema must be {schemas.DIALECT}",
        ),
        ({"title": "x" * (1 << 16)}, "is 65549 bytes long, and may have 65536"),
        ({"const": "\ud800"}, "has a value that JSON cannot represent"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_schema_is_refused_with_the_place(schema: Any, problem: str) -> None:
    with pytest.raises(SchemaError) as error:
        answers.check_schema(schema)
    assert str(error.value).startswith(problem)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.sampled_from(["", "a", "bb"])
)
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
KINDS = ["null", "boolean", "integer", "number", "string", "array", "object"]
SCHEMAS = st.recursive(
    st.one_of(
        st.booleans(),
        st.builds(lambda kind: {"type": kind}, st.sampled_from(KINDS)),
        st.builds(lambda value: {"enum": [value]}, LEAVES),
        st.builds(lambda least: {"minimum": least, "minItems": abs(least)}, st.integers(-3, 3)),
    ),
    lambda inner: st.one_of(
        st.builds(lambda schema: {"items": schema}, inner),
        st.builds(lambda schemas: {"anyOf": schemas}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda schema: {"not": schema}, inner),
        st.builds(
            lambda fields, names, more: {
                "type": "object",
                "properties": fields,
                "required": names,
                "additionalProperties": more,
            },
            st.dictionaries(NAMES, inner, max_size=3),
            st.lists(NAMES, unique=True, max_size=2),
            inner,
        ),
    ),
    max_leaves=5,
)
WORDS = st.sampled_from(["", "Sure:\n", "```json\n", "\n```", "{", "[{", '{"a": 1}', "NaN", "\n"])


@pytest.mark.parametrize("text", ["[[{}]]", "Sure:\n[[{}]]", "```json\n[[{}]]\n```"])
def test_a_part_of_an_answer_that_is_not_valid_is_no_answer(text: str) -> None:
    assert answers.read(text, {"items": {"minItems": 2}}).problems


@given(SCHEMAS.filter(lambda schema: isinstance(schema, dict)), VALUES, WORDS, WORDS)
@settings(max_examples=300)
def test_no_answer_is_taken_that_is_not_valid(
    schema: dict[str, Any], value: Any, before: str, after: str
) -> None:
    answer = answers.read(before + json.dumps(value) + after, schema)
    validator = jsonschema.Draft202012Validator(schema)
    if not answer.problems:
        assert validator.is_valid(answer.data)
        assert json.loads(json.dumps(answer.data, allow_nan=False)) == answer.data
    if not before + after:
        assert validator.is_valid(value) == (not answer.problems)


@pytest.mark.parametrize(
    ("schema", "is_taken"),
    [
        ({"type": "object", "additionalProperties": False}, True),
        (
            {
                "$schema": schemas.DIALECT,
                "type": "object",
                "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/b"}}},
                "required": ["a"],
                "additionalProperties": False,
                "$defs": {"b": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
            },
            True,
        ),
        ({"type": "object"}, False),
        ({"type": "array", "items": {}}, False),
        (
            {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
            False,
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string", "minLength": 1}},
                "required": ["a"],
                "additionalProperties": False,
            },
            False,
        ),
        (
            {"type": "object", "properties": [], "required": {}, "additionalProperties": False},
            False,
        ),
        ({"type": "object", "$defs": 1, "anyOf": 2, "additionalProperties": False}, False),
    ],
    ids=str,
)
def test_strict_mode(schema: dict[str, Any], is_taken: bool) -> None:
    assert schemas.is_strict(schema) == is_taken
