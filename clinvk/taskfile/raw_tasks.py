"""A file's tasks as plain values, before validation, and where in the file each of them is."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, overload


@dataclass(frozen=True, slots=True)
class Numbering:
    """How a kind of file numbers its tasks: `tasks[4].prompt`, `[4].prompt`, `line 4: prompt`."""

    before: str
    after: str
    separator: str = "."

    def place(self, number: int, field_name: str = "") -> str:
        """Return the place of a task's field, or of the task itself."""
        place = f"{self.before}{number}{self.after}"
        return f"{place}{self.separator}{field_name}" if field_name else place


LINES = Numbering("line ", "", ": ")


def list_numbering(key: str = "") -> Numbering:
    """Return the numbering of a list: the one called `key`, or one that is the whole file."""
    return Numbering(f"{key}[", "]")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTasks:
    """A file's tasks before validation, each with its number in the file.

    `tasks` may be parsed while it is iterated, and `problems` grow as it is. `header` is what is
    beside the tasks at the top of the file.
    """

    tasks: Iterable[tuple[int, Any]]
    numbering: Numbering
    header: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class SourceLocations(Sequence[str]):
    """The place of each task, such as `tasks.json: tasks[4]`; 4 bytes of memory for each."""

    def __init__(self, name: str, numbering: Numbering) -> None:
        self._name = name
        self.numbering = numbering
        self._numbers = array("I")

    def add(self, number: int) -> None:
        """Add the place of the next task."""
        self._numbers.append(number)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return f"{self._name}: {self.numbering.place(self._numbers[index])}"
