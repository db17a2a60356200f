"""Parse JSON, and note what Python's parser accepts although it is wrong or surely not meant."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from clinvk.core.validation_errors import shown

MAX_DIGITS = 300
"""Longer integers are taken for infinite: Python refuses to parse those of over 4300 digits."""


class StrictJsonParser:
    """Parses JSON documents one after the other."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._decode = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant, parse_int=_integer
        ).decode

    def __call__(self, text: str) -> tuple[Any, list[str]]:
        """Return a document's value, and what is wrong with it although it could be parsed.

        Raises:
            json.JSONDecodeError: it is not JSON.
        """
        self._problems = []
        return self._decode(text), self._problems

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            keys = ", ".join(map(shown, duplicates(key for key, _ in pairs)))
            self._problems.append(f"duplicate key in object: {keys}")
        return result

    def _constant(self, word: str) -> None:
        self._problems.append(f"{word} is not valid in JSON")


def duplicates(keys: Iterable[str]) -> list[str]:
    """Return the keys that occur more than once, sorted."""
    return sorted(key for key, count in Counter(keys).items() if count > 1)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < MAX_DIGITS else math.inf


parse_json = StrictJsonParser()
