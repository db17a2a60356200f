"""Where a task may run, and how long it may wait: what a file writes otherwise than a `TaskSpec`.

In a file `backend` may be a list, whose first name becomes `TaskSpec.backend` and the others
`alternatives`. Each may be `backend:model`, as in `fallback`. `max_wait` is a duration, of which a
spec has the seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clinvk.core.durations import wait_seconds
from clinvk.core.requirements import TAGS, Requirements
from clinvk.core.spec import not_blank
from clinvk.core.suggestions import did_you_mean
from clinvk.core.validation_errors import shown

Problem = tuple[str, str]
"""The place of a field in its task, such as `tags[1]` (empty for the task), and what is wrong."""
Route = tuple[str, str | None]
"""A backend and a model, None for its default one."""

FIELDS = frozenset({"max_wait", "fallback"})
"""Fields that are read here, beside a `backend` that is a list."""


@dataclass(frozen=True, slots=True)
class Routes:
    """A task's fields as those of a `TaskSpec`, how long it may wait, and what is wrong."""

    fields: Mapping[str, Any]
    max_wait_seconds: float | None
    problems: Sequence[Problem]


def read(
    body: Mapping[str, Any], backends: Mapping[str, bool], *, has_own_fallback: bool
) -> Routes | None:
    """Read what a task says of its routes; None for one that says only the name of its backend.

    `backends` has the name of each backend, and whether it is enabled. With `has_own_fallback` the
    fallback is the task's, and not that of all tasks of its file.
    """
    is_list = isinstance(body.get("backend"), list)
    if not is_list and FIELDS.isdisjoint(body):
        return None
    fields, problems = dict(body), list[Problem]()
    if is_list:
        own = _own_routes(fields, problems, backends)
    else:
        own = [(body.get("backend", ""), body.get("model"))]
        problem = backend_problem(body.get("backend"), backends)
        problems += [("backend", problem)] if problem else []
    wait = _wait(fields.pop("max_wait", None), problems)
    if has_own_fallback:
        problems += fallback_problems(fields["fallback"], backends, own)
    return Routes(fields, wait, problems)


def backend_problem(name: Any, backends: Mapping[str, bool]) -> str | None:
    """Return why no task can run on a backend of this name, if so."""
    if not isinstance(name, str) or not name:
        return None  # reported by the types
    if name not in backends:
        known = [known for known, enabled in backends.items() if enabled]
        return f'unknown backend "{name}"{did_you_mean(name, known)} (known: {", ".join(known)})'
    if not backends[name]:
        return f'backend "{name}" is disabled in the configuration (backends.{name}.enabled)'
    return None


def fallback_problems(
    entries: Any, backends: Mapping[str, bool], own: Collection[Route] = ()
) -> Iterator[Problem]:
    """Yield what is wrong with a list of `backend` or `backend:model`.

    `own` are the backends and models of the task itself, the first before the others. What is no
    list of texts is left to the types.
    """
    seen: set[Route] = set()
    others = {name for name, _ in list(own)[1:]}
    for place, entry in enumerate(entries if isinstance(entries, list) else ()):
        if not isinstance(entry, str) or not not_blank(entry):
            continue
        route, problem = _route(entry, backends)
        if problem is None and route in own:
            problem = f'"{entry}" is the task\'s own backend and model'
        elif problem is None and route[1] is None and route[0] in others:
            problem = f'"{entry}" is one of the task\'s own backends: name another model of it'
        elif problem is None and route in seen:
            problem = f'"{entry}" is named twice'
        seen.add(route)
        if problem is not None:
            yield f"fallback[{place}]", problem


def requirement_problems(given: Any, backends: Mapping[str, bool]) -> Iterator[Problem]:
    """Yield what is wrong with what a file requires. What is no mapping is left to the types."""
    for name, value in given.items() if isinstance(given, dict) else ():
        if name != TAGS and (problem := backend_problem(name, backends)):
            yield f"requires.{name}", problem
            continue
        try:
            Requirements.of({name: value})
        except ValueError as error:
            yield f"requires.{name}", f"{error} (got {shown(value)})"


def _route(entry: str, backends: Mapping[str, bool]) -> tuple[Route, str | None]:
    """Take `backend` or `backend:model` apart; returns also what is wrong with it."""
    name, colon, model = entry.partition(":")
    if colon and not not_blank(model):
        return (name, None), f'"{entry}" has no model after the colon'
    return (name, model or None), backend_problem(name, backends) if name else _nameless(entry)


def _nameless(entry: str) -> str:
    return f'"{entry}" has no backend before the colon'


def _own_routes(
    fields: dict[str, Any], problems: list[Problem], backends: Mapping[str, bool]
) -> Sequence[Route]:
    """Make fields of a list of backends; returns its routes."""
    entries = fields["backend"]
    routes: dict[str, str | None] = {}
    for place, entry in enumerate(entries):
        if not isinstance(entry, str) or not not_blank(entry):
            problems.append((f"backend[{place}]", f"must be a backend's name (got {shown(entry)})"))
            continue
        (name, model), problem = _route(entry, backends)
        if problem is None and name in routes:
            problem = f'"{name}" is named twice'
        if problem is None and place == 0 and model and fields.get("model") is not None:
            problem = f'"{entry}" has a model, and so has the field model: keep one'
        if problem is not None:
            problems.append((f"backend[{place}]", problem))
        routes.setdefault(name, model)
    if not entries:
        problems.append(("backend", "must not be empty (got [])"))
    first, *others = routes or {"unnamed": None}
    routes[first] = routes.get(first) or fields.get("model")
    fields |= {"backend": first, "model": routes[first], "alternatives": others}
    fields["variants"] = {name: {"model": routes[name]} for name in others if routes[name]}
    return list(routes.items())


def _wait(value: Any, problems: list[Problem]) -> float | None:
    try:
        return None if value is None else wait_seconds(value)
    except ValueError as error:
        problems.append(("max_wait", f"{error} (got {shown(value)})"))
        return None
