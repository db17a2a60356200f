"""JSON that Python would accept: duplicate keys, numbers that are none."""

from __future__ import annotations

import json
import math

from clinvk.core.strict_json import duplicates, parse_json


def test_duplicate_keys_and_foreign_numbers_are_reported() -> None:
    value, problems = parse_json('{"b": 1, "a": NaN, "b": 2, "a": 3, "c": {"d": 1}}')
    assert value == {"b": 2, "a": 3, "c": {"d": 1}}
    assert problems == ["NaN is not valid in JSON", 'duplicate key in object: "a", "b"']


def test_a_document_does_not_inherit_the_problems_of_the_one_before() -> None:
    parse_json('{"a": 1, "a": 2}')
    assert parse_json('{"a": 1}') == ({"a": 1}, [])


def test_integers_of_any_length_are_parsed() -> None:
    assert parse_json("9" * 5000) == (math.inf, [])
    assert parse_json("9" * 200) == (json.loads("9" * 200), [])


class CountedKey(str):
    """A key that counts how often any of its kind is compared."""

    __slots__ = ()
    comparisons = 0

    def __eq__(self, other: object) -> bool:
        CountedKey.comparisons += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_duplicate_keys_are_found_in_linear_time() -> None:
    count = 2000
    keys = [CountedKey(number % (count - 1)) for number in range(count)]
    CountedKey.comparisons = 0
    assert duplicates(keys) == ["0"]
    assert CountedKey.comparisons < 10 * count
