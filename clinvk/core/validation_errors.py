"""Put what pydantic found wrong into clinvk's words: `must be >= 1 (got 0)`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

GOT_CHARS = 40

_TYPES = {
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dataclass_type": "must be an object",
    "dataclass_exact_type": "must be an object",
    "predicate_failed": "must not be blank",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}


def describe(error: Mapping[str, Any], known: Iterable[str] = ()) -> str:
    """Say what is wrong with one value, from one of pydantic's error dictionaries.

    `known` are the names that a field could have had, for the nearest one to an unknown.
    """
    kind, limits = error["type"], error.get("ctx", {})
    if kind in {"missing", "missing_argument"}:
        return "is required"
    if kind in {"extra_forbidden", "unexpected_keyword_argument"}:
        return "unknown field" + nearest(str(error["loc"][-1]), known)
    return f"{_rule(kind, limits, error['msg'])} (got {shown(error['input'])})"


def _rule(kind: str, limits: Mapping[str, Any], message: str) -> str:
    match kind:
        case "greater_than_equal":
            return f"must be >= {limits['ge']}"
        case "greater_than":
            return f"must be > {limits['gt']:g}"
        case "less_than_equal":
            return f"must be <= {limits['le']}"
        case "literal_error":
            return f"must be one of {limits['expected']}".replace(" or ", ", ")
        case "value_error":
            return str(limits["error"])
        case _:
            return _TYPES.get(kind, message.removeprefix("Value error, "))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean "x"?` for the known name that is nearest, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f', did you mean "{close[0]}"?' if close else ""


def shown(value: object) -> str:
    """Show a value as JSON, cut to a readable length."""
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= GOT_CHARS else text[: GOT_CHARS - 3] + "..."
