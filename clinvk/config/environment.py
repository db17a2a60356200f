"""Settings from the environment.

A variable's name is its setting's place in capitals: `unified_flags.max_turns` is
`CLINVK_UNIFIED_FLAGS_MAX_TURNS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from clinvk.backends import packaged_names
from clinvk.config import paths
from clinvk.config.models import (
    UNSET_BACKEND,
    BudgetsSection,
    Config,
    DayBudget,
    PriceSection,
    QueueSection,
)
from clinvk.config.places import Place, model_at, settings_of
from clinvk.core.suggestions import did_you_mean, nearest

PREFIX = "CLINVK_"
RESERVED = frozenset(
    {paths.VARIABLE, "CLINVK_DEBUG", "CLINVK_TASK", "CLINVK_OWNER", "CLINVK_CLI_CACHE"}
)
"""Variables of clinvk that are no settings. Those that begin with WORKER_PREFIX are not either."""
WORKER_PREFIX = f"{PREFIX}WORKER_"
FILE_ONLY = frozenset({"command", "env", "like"})
"""Settings that have no variable."""
SIMILARITY = 0.85
"""A variable this similar to a setting's is reported as a misspelled setting."""


@cache
def variable(place: Place) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", "_".join(place).upper())


def overlay(
    values: dict[str, Any], origins: dict[Place, str], environment: Mapping[str, str]
) -> list[str]:
    """Set the variables' settings in the file's `values`, and name them in `origins`.

    Returns what is wrong with the variables' names. A value that does not fit its setting is
    taken over as it is, for validation to report.
    """
    places = {variable(place): place for place in _all_places(values)}
    for name, place in places.items():
        if name in environment and place[-1] not in FILE_ONLY:
            section = _section(values, place)
            if isinstance(section, dict):
                section[place[-1]] = _parse(environment[name], place)
                origins[place] = name
    return [problem for name in environment if (problem := _name_problem(name, places))]


def _all_places(values: Mapping[str, Any]) -> Iterator[Place]:
    """Yield the places of all settings that there are, given the names that the file defines."""
    backends = dict.fromkeys((*packaged_names(), *_names(values, "backends")), UNSET_BACKEND)
    queues = dict.fromkeys((*backends, *_names(values, "queues")), QueueSection.model_construct())
    prices = dict.fromkeys(_names(values, "prices"), PriceSection(input=0, output=0))
    budgets = BudgetsSection(
        queues=dict.fromkeys(_names(values.get("budgets"), "queues"), DayBudget()),
        keys=dict.fromkeys(_names(values.get("budgets"), "keys"), DayBudget()),
    )
    template = Config.model_construct(
        backends=backends, queues=queues, prices=prices, budgets=budgets
    )
    return (place for place, _ in settings_of(template))


def _names(values: Any, section: str) -> list[str]:
    entries = values.get(section) if isinstance(values, dict) else None
    return [str(name) for name in entries] if isinstance(entries, dict) else []


def _section(values: dict[str, Any], place: Place) -> Any:
    """Return the section that a place is in, made where it is missing."""
    section: Any = values
    for part in place[:-1]:
        section = section.setdefault(part, {}) if isinstance(section, dict) else {}
    return section


def _name_problem(name: str, places: Mapping[str, Place]) -> str | None:
    """Return what is wrong with a variable's name, if it seems to be meant for clinvk."""
    if name in places:
        place = places[name]
        if place[-1] in FILE_ONLY:
            where = f"set {'.'.join(place)} in the configuration file"
            return f"{name}: cannot be set by a variable: {where}"
        return None
    if name in RESERVED or name.startswith(WORKER_PREFIX) or not name.startswith(PREFIX):
        return None
    sections = tuple(f"{PREFIX}{section.upper()}_" for section in Config.model_fields)
    if name.startswith(sections) or nearest(name, places, SIMILARITY):
        return f"{name}: unknown setting{did_you_mean(name, places)}"
    return None


def _parse(text: str, place: Place) -> Any:
    """Parse a variable's text as its setting's type; where it does not fit, it stays text."""
    annotation: Any = model_at(place[:-1]).model_fields[place[-1]].annotation
    if "list" in str(annotation):
        return _parse_list(text, place)
    try:
        return TypeAdapter(annotation).validate_python(text)
    except ValidationError:
        return text


def _parse_list(text: str, place: Place) -> Any:
    """Parse a list, in JSON or separated by commas."""
    if text == "all" and place[-1] == "allowed_tools":
        return text
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return [part.strip() for part in text.split(",") if part.strip()]
