"""Translate pydantic's errors into clinvk's messages, such as `must be >= 1 (got 0)`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from clinvk.core.suggestions import did_you_mean

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

_NOT_RETRIED = {
    "rate_limited": "limits are waited for, up to max_wait",
    "usage_limit": "limits are waited for, up to max_wait",
    "quota": "waiting does not help, but a fallback does",
    "not_installed": "it would be missing again, but a fallback helps",
    "lost": "losses of workers are counted by max_attempts",
    "canceled": "what was canceled is not started again",
    "invalid": "it would fail in the same way",
    "too_large": "it would fail in the same way",
}
"""Kinds of errors that `retry_on` does not take, each with the reason."""


def describe(error: Mapping[str, Any], known: Iterable[str] = ()) -> str:
    """Return the message for one of the dictionaries of pydantic's `ValidationError.errors()`.

    `known` are the valid field names; the one nearest to an unknown field is suggested.
    """
    kind, limits = error["type"], error.get("ctx", {})
    if kind in {"missing", "missing_argument"}:
        return "is required"
    if kind in {"extra_forbidden", "unexpected_keyword_argument"}:
        return "unknown field" + did_you_mean(str(error["loc"][-1]), known)
    if "retry_on" in error["loc"] and (why := _NOT_RETRIED.get(str(error["input"]))):
        return f'"{error["input"]}" is no kind to retry on: {why}'
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


def shown(value: object) -> str:
    """Show a value as JSON, cut to a readable length."""
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= GOT_CHARS else text[: GOT_CHARS - 3] + "..."
