"""YAML: what is refused beside syntax errors, and that anchors and merges work."""

from __future__ import annotations

from itertools import pairwise

import pytest

from clinvk.core import yaml_document

LETTERS = "abcdefghijkl"


def bomb(first: str, line: str) -> str:
    """Each line has the one before nine times."""
    lines = [f"a: &a {first}"]
    for before, letter in pairwise(LETTERS):
        lines.append(f"{letter}: &{letter} " + line.format(", ".join([f"*{before}"] * 9)))
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1", "is not valid YAML: did not find expected ',' or ']' at line 2, column 1"),
        ("a: b: c", "mapping values are not allowed in this context at line 1, column 5"),
        ("a\n---\nb", "expected a single document in the stream, but found another document"),
        ("a: 1\nb: 2\na: 3", 'is not valid YAML: duplicate key "a" at line 3, column 1'),
        ("- {x: {y: 1, 'y': 2}}", 'duplicate key "y" at line 1, column 14'),
        ("a: 2025-02-30", "is not valid YAML: day is out of range for month"),
        ("a: !!python/name:os.system x", "could not determine a constructor for the tag"),
        ("a: *b", "found undefined alias at line 1, column 4"),
        ("a: &a [*a]", "is not valid YAML: an alias contains itself"),
        ("&a {b: [{c: *a}]}", "is not valid YAML: an alias contains itself"),
        ("[" * 200, "is not valid YAML: more than 100 levels deep"),
        ("[" * 100_000, "is not valid YAML: "),  # the scanner may have a limit of its own
        ("- " * 101 + "x", "is not valid YAML: more than 100 levels deep"),
        (bomb("[x, x]", "[{}]"), "is too large: its aliases expand to more than 10000 values"),
        (bomb("{k: v}", "{{<<: [{}]}}"), "its merge keys expand to more than 10000 values"),
    ],
)
def test_what_is_refused(text: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_document, "MAX_VALUES", 10_000)  # a million takes a second
    with pytest.raises(ValueError, match=r"^is ") as caught:
        yaml_document.load(text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: &x [1]\nb: *x\nc: [*x, *x]", {"a": [1], "b": [1], "c": [[1], [1]]}),
        ("d: &d {m: 1, n: 1}\nt: {<<: *d, m: 2}", {"d": {"m": 1, "n": 1}, "t": {"m": 2, "n": 1}}),
        # b is merged into c before it is itself read to the end.
        ("a: &a {k: 1}\nt: [&b {<<: *a, k: 2}, {<<: *b}]", {"a": {"k": 1}, "t": [{"k": 2}] * 2}),
        ("{1: a, '1': b}", {1: "a", "1": "b"}),
    ],
)
def test_what_is_read(text: str, value: object) -> None:
    assert yaml_document.load(text) == value
