"""Places in the configuration, such as `("backends", "claude", "model")`, and how to walk them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from clinvk.config.models import UNSET_BACKEND, Config

Place = tuple[str, ...]

NAMED_SECTIONS = frozenset({"backends", "queues", "prices", "keys"})
"""Sections that have a section of their own for each name in them."""


def settings_of(section: BaseModel, *prefix: str) -> Iterator[tuple[Place, Any]]:
    """Yield every setting of a section with its value, the defaults included."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from settings_of(value, *prefix, name)
        elif name in NAMED_SECTIONS:
            for key, entry in value.items():
                yield from settings_of(entry, *prefix, name, key)
        else:
            yield (*prefix, name), value


def set_in(values: Mapping[str, Any], *prefix: str) -> Iterator[Place]:
    """Yield the places that plain values set."""
    for key, value in values.items():
        place = (*prefix, str(key))
        if isinstance(value, dict) and place[-1] not in {"env", "network"}:
            yield from set_in(value, *place)
        else:
            yield place


def value_at(config: Config, place: Place) -> Any:
    """Return a setting's value; of a backend that is not mentioned, the default."""
    value: Any = config
    for part in place:
        value = value.get(part, UNSET_BACKEND) if isinstance(value, dict) else getattr(value, part)
    return value


def model_at(place: Sequence[str]) -> type[BaseModel]:
    """Return the model of the section at a place; the nearest one above, if there is none."""
    section: type[BaseModel] = Config
    for part in place:
        if part in section.model_fields:
            annotation = section.model_fields[part].annotation
            candidates = (annotation, *get_args(annotation))
            models = [a for a in candidates if isinstance(a, type) and issubclass(a, BaseModel)]
            section = models[0] if models else section
    return section
