"""Dataclasses of which mostly nothing changes."""

from __future__ import annotations

from dataclasses import dataclass

from clinvk.core.replaced import replaced


@dataclass(frozen=True)
class Point:
    x: int
    y: int


def test_what_changes_is_replaced_and_what_does_not_is_the_same() -> None:
    point = Point(1, 2)
    assert replaced(point, x=1, y=3) == Point(1, 3)
    assert replaced(point, x=1, y=2) is point
    assert point == Point(1, 2)
