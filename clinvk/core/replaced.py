"""`dataclasses.replace`, where mostly nothing changes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)
else:
    T = TypeVar("T")


def replaced(value: T, **fields: Any) -> T:
    """Return a value with other fields, or itself where it has them already.

    To compare a few fields takes a tenth of the time in which all of a task's are copied.
    """
    for name, field in fields.items():
        if getattr(value, name) != field:
            return replace(value, **fields)
    return value
