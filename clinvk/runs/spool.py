"""Sequences of tasks and of results that are kept in a file, so that memory does not grow.

Records go to an unnamed temporary file. In memory stay the position of each, 12 bytes, and the
records written last: a small run makes no file at all.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Generic, TypeVar, overload

from clinvk.core.spec import Wire

HELD_BYTES = 1 << 18
"""The most bytes of records in memory before they are written to the file."""

W = TypeVar("W", bound=Wire)


class Records:
    """Byte strings by index; one that was never written is empty.

    Any thread may read while none writes.
    """

    def __init__(self, count: int = 0) -> None:
        self._starts = array("Q", [0]) * count
        self._sizes = array("I", [0]) * count
        self._held = bytearray()
        self._in_file = 0
        self._descriptor: int | None = None

    def __len__(self) -> int:
        return len(self._starts)

    def has(self, index: int) -> bool:
        """Whether a record was written."""
        return self._sizes[index] > 0

    def append(self, record: bytes) -> None:
        """Write the record after the last one."""
        self._starts.append(0)
        self._sizes.append(0)
        self[len(self) - 1] = record

    def __setitem__(self, index: int, record: bytes) -> None:
        self._starts[index] = self._in_file + len(self._held)
        self._sizes[index] = len(record)
        self._held += record
        if len(self._held) >= HELD_BYTES:
            # If the disk is full, the records stay in memory: results must not be lost.
            with suppress(OSError):
                self._to_file()

    def __getitem__(self, index: int) -> bytes:
        start, size = self._starts[index], self._sizes[index]
        if self._descriptor is None or start >= self._in_file:
            first = start - self._in_file
            return bytes(self._held[first : first + size])
        return os.pread(self._descriptor, size, start)

    def _to_file(self) -> None:
        if self._descriptor is None:
            with tempfile.TemporaryFile() as file:
                self._descriptor = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._descriptor)
        written = 0
        while written < len(self._held):
            piece = self._held[written : written + HELD_BYTES]
            written += os.pwrite(self._descriptor, piece, self._in_file + written)
        self._in_file += written
        self._held.clear()


class Spool(Sequence[W], Generic[W]):
    """A sequence of tasks or of results, kept in `Records` in their wire format.

    Each access decodes the item again. With a `count` the sequence starts with that many empty
    places, which can be filled in any order.
    """

    def __init__(self, kind: type[W], items: Iterable[W] = (), count: int = 0) -> None:
        self._kind = kind
        self._records = Records(count)
        for item in items:
            self.append(item)

    def append(self, item: W) -> None:
        """Add an item at the end."""
        self._records.append(item.to_wire())

    def __setitem__(self, index: int, item: W) -> None:
        self._records[index] = item.to_wire()

    def has(self, index: int) -> bool:
        """Whether a place is filled."""
        return self._records.has(index)

    def missing(self) -> Iterator[int]:
        """Yield the places that are not filled yet."""
        return (index for index in range(len(self)) if not self._records.has(index))

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> W: ...
    @overload
    def __getitem__(self, index: slice) -> list[W]: ...
    def __getitem__(self, index: int | slice) -> W | list[W]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._kind.from_wire(self._records[index])

    def __iter__(self) -> Iterator[W]:
        for index in range(len(self)):
            yield self[index]
