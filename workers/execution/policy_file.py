"""Reads a policy file: YAML with one entry for each rule of `Policy`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from clinvk.core import yaml_document
from clinvk.core.errors import ConfigError
from clinvk.core.suggestions import did_you_mean
from clinvk.core.user_paths import UnknownHomeError, expanded
from workers.execution.policy import APPROVAL_ORDER, SANDBOX_ORDER, Policy


def load(path: str) -> Policy:
    """Read a policy file.

    Raises:
        ConfigError: with all that is wrong; a worker must not start with half a policy.
    """
    try:
        values = yaml_document.load(_read(path))
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from error
    if not isinstance(values, dict):
        raise ConfigError([f"{path}: must be a mapping of rules"])
    if problems := [f"{path}: {problem}" for problem in _problems(values)]:
        raise ConfigError(problems)
    return Policy(**values)


def _read(path: str) -> str:
    try:
        return expanded(path).read_text(encoding="utf-8")
    except UnknownHomeError as error:
        raise ConfigError([str(error)]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text (byte {error.start})"]) from error
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error


def _problems(values: Mapping[Any, Any]) -> Iterator[str]:
    for name, value in values.items():
        if name not in RULES:
            yield f"{name}: unknown rule{did_you_mean(str(name), RULES)}"
        elif (expected := RULES[name](value)) is not None:
            yield f"{name}: must be {expected} (got {value!r})"


Check = Callable[[Any], str | None]
"""Returns what a value should have been, None if it is."""


def _one_of(order: Sequence[str]) -> Check:
    return lambda value: None if value in order else f"one of {', '.join(order)}"


def _strings(value: Any) -> str | None:
    is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return None if is_list else "a list of strings"


def _paths(value: Any) -> str | None:
    try:
        problem = _strings(value)
        for path in [] if problem else value:
            expanded(path)
    except UnknownHomeError as error:
        return f"a list of paths ({error})"
    return problem


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _whole_number(value: Any) -> str | None:
    is_one = isinstance(value, int) and not isinstance(value, bool)
    return None if is_one and value >= 1 else "a whole number of at least 1"


def _seconds(value: Any) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number and 0 < value < float("inf") else "a number above 0"


RULES: Mapping[str, Check] = {
    "max_sandbox_mode": _one_of(SANDBOX_ORDER),
    "max_approval_mode": _one_of(APPROVAL_ORDER),
    "max_timeout_seconds": _seconds,
    "max_turns": _whole_number,
    "workdir_roots": _paths,
    "backends": _strings,
    "models": _strings,
    "extra": _strings,
    "allowed_tools": _strings,
    "project_settings": _boolean,
    "setup": _strings,
    "repos": _strings,
    "verify": _strings,
    "reuse": _boolean,
}
