"""Check values from the wire against a dataclass's own annotations, without pydantic.

What is in Redis may have been written by anyone who reaches it. A value of the wrong type would
fail somewhere in the middle of a task, with its process running; so each is checked before anything
is made of it. The rules are the annotations that the task file is validated against as well.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types

from clinvk.core.nesting import Shallow, depth

Check = Callable[[Any], str | None]
"""Returns what is wrong with a value, such as `must be an integer`, or None."""

LONGEST_SHOWN = 40


def problems(kind: type, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the fields of a dataclass whose values do not fit, each with what is wrong.

    Missing fields are left to the class's own `__init__`.
    """
    checks = _checks(kind)
    for name, value in fields.items():
        if (check := checks.get(name)) is None:
            yield name, f"{_shown(name)} is not a known field"
        elif (wrong := check(value)) is not None:
            yield name, f"{name} {wrong} (got {_shown(value)})"


def _shown(value: object) -> str:
    """Show a value cut to a readable length, without the cost of showing a large one whole."""
    if isinstance(value, str):
        return ascii(value[:LONGEST_SHOWN])
    if value is None or isinstance(value, bool | float):
        return str(value)
    return f"a {type(value).__name__}"


@cache
def _checks(kind: type) -> Mapping[str, Check]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _check_of(hints[field.name]) for field in dataclasses.fields(kind)}


def _check_of(annotation: Any) -> Check:
    """Make the check of an annotation.

    Raises:
        TypeError: an annotation that no field has had yet.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _all([_check_of(arguments[0]), *map(_constraint, arguments[1:])])
    if origin in {Union, types.UnionType}:
        if str in arguments:  # an enum whose members may become more
            return _optional(str) if types.NoneType in arguments else _is_string
        return _optional(*(argument for argument in arguments if argument is not types.NoneType))
    if origin is Literal:
        return _member(arguments)
    if origin is list:
        return _list_of(_check_of(arguments[0]))
    if origin is dict:
        return _mapping_of(_check_of(arguments[1]))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _member([member.value for member in annotation])
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return _object_of(annotation)
    if annotation not in _SCALARS:
        raise TypeError(f"no check for {annotation!r}")
    return _SCALARS[annotation]


def _is_string(value: Any) -> str | None:
    return None if isinstance(value, str) else "must be a string"


def _is_integer(value: Any) -> str | None:
    return None if type(value) is int else "must be an integer"  # True is an int as well


def _is_boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _is_finite_number(value: Any) -> str | None:
    if type(value) not in {int, float}:
        return "must be a number"
    try:
        return None if math.isfinite(value) else "must be a finite number"
    except OverflowError:
        return "must be a finite number"


_SCALARS: Mapping[Any, Check] = {
    str: _is_string,
    int: _is_integer,
    bool: _is_boolean,
    float: _is_finite_number,
    Any: lambda _: None,  # checked where it is used
}


def _all(checks: list[Check]) -> Check:
    """Check one after another: a constraint may rely on the type."""

    def check(value: Any) -> str | None:
        return next((wrong for each in checks if (wrong := each(value)) is not None), None)

    return check


def _constraint(constraint: Any) -> Check:
    match constraint:
        case annotated_types.Ge(ge=least):
            return lambda value: None if value >= least else f"must be >= {least}"
        case annotated_types.Gt(gt=bound):
            return lambda value: None if value > bound else f"must be > {bound}"
        case annotated_types.Le(le=most):
            return lambda value: None if value <= most else f"must be <= {most}"
        case annotated_types.MinLen(min_length=length):
            return lambda value: None if len(value) >= length else "must not be empty"
        case Shallow(most=most):
            return lambda value: None if depth(value, most) <= most else "is nested too deeply"
        case annotated_types.Predicate(func=holds):
            return lambda value: None if holds(value) else "must not be blank"
        case _:
            raise TypeError(f"no check for {constraint!r}")


def _optional(annotation: Any) -> Check:
    inner = _check_of(annotation)
    return lambda value: None if value is None else inner(value)


def _member(values: Any) -> Check:
    known = frozenset(values)
    text = f"must be one of {', '.join(map(str, values))}"
    return lambda value: None if isinstance(value, str) and value in known else text


def _list_of(inner: Check) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, list):
            return "must be a list"
        return next((f"has an item that {wrong}" for item in value if (wrong := inner(item))), None)

    return check


def _mapping_of(inner: Check) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, dict):
            return "must be a mapping"
        items = value.values()
        return next((f"has a value that {wrong}" for item in items if (wrong := inner(item))), None)

    return check


def _object_of(kind: type) -> Check:
    missing = dataclasses.MISSING
    needed = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is missing and field.default_factory is missing
    ]

    def check(value: Any) -> str | None:
        if not isinstance(value, dict):
            return "must be an object"
        if lacking := [name for name in needed if name not in value]:
            return f"has no {lacking[0]}"
        return next((f"is not valid: {wrong}" for _, wrong in problems(kind, value)), None)

    return check
