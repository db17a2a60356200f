"""Find values that occur twice among those of very many tasks."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from clinvk.runs.spool import Records


class UniqueValues:
    """The value of one field in each task; 24 bytes of memory for each."""

    def __init__(self) -> None:
        self._texts = Records()
        self._hashes = array("q")
        self._numbers = array("I")

    def add(self, value: Any, number: int) -> None:
        """Remember the value in the task of this number, if it is a text."""
        if value and isinstance(value, str):
            self._texts.append(value.encode("utf-8", "surrogatepass"))
            self._hashes.append(hash(value))
            self._numbers.append(number)

    def repeated(self) -> Iterator[tuple[int, str, int]]:
        """Yield each task whose value an earlier one has: its number, the value, the earlier."""
        suspects = {one for one, next_ in pairwise(sorted(self._hashes)) if one == next_}
        first: dict[bytes, int] = {}
        for place, number in enumerate(self._numbers):
            if self._hashes[place] in suspects:
                text = self._texts[place]
                taken_by = first.setdefault(text, number)
                if taken_by != number:
                    yield number, text.decode("utf-8", "surrogatepass"), taken_by
