"""Messages about configuration values that are not valid, each with its file or variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clinvk.backends.base import NAME_RULE
from clinvk.config.environment import variable
from clinvk.config.places import Place, model_at
from clinvk.core.validation_errors import describe

MESSAGES_OF_FIELDS = {
    "allowed_tools": 'must be "all" or a list of strings',
    "network": "must be on, off, or ports with a list of them",
}
"""Fields of several types: pydantic reports an error for each type, and one says it all."""


def setting_problem(error: Mapping[str, Any], origins: Mapping[Place, str], file: str) -> str:
    """Return the message for one of pydantic's errors about a `Config`.

    `origins` tells whether the value came from a variable; `file` is the configuration file's
    name in messages.
    """
    location = [part for part in error["loc"] if not _is_type(part)]
    setting = tuple(str(part) for part in location if not isinstance(part, int))
    text = _text(error, location)
    if origins.get(setting) == variable(setting):
        return f"{variable(setting)}: {text}"
    return f"{file}: {_shown_place(location)}: {text}"


def _text(error: Mapping[str, Any], location: list[Any]) -> str:
    for field, message in MESSAGES_OF_FIELDS.items():
        if field in location:
            return message
    if error["type"] == "string_pattern_mismatch":
        return NAME_RULE
    known = model_at([str(part) for part in location[:-1]]).model_fields
    text = describe(error, known).replace("unknown field", "unknown setting")
    is_secret = location[0] == "broker_url" or "env" in location
    return text.partition(" (got ")[0] if is_secret else text


def _shown_place(location: list[Any]) -> str:
    place = ""
    for part in location:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
        if part in MESSAGES_OF_FIELDS:
            break
    return place.removeprefix(".")


def _is_type(part: object) -> bool:
    """Whether a part of pydantic's location names a type, not a place."""
    return isinstance(part, str) and (part == "[key]" or part.startswith(("literal[", "list[")))
