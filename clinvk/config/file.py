"""Read the configuration file into plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinvk.config.models import Config
from clinvk.config.places import NAMED_SECTIONS
from clinvk.core import yaml_document
from clinvk.core.errors import ConfigError

SCALARS = frozenset({"broker_url", "output_dir", "steps"})
"""Settings at the top of the file, beside its sections."""


def read(location: Path, name: str, *, required: bool) -> dict[str, Any]:
    """Return what the file sets; `name` is what messages call it.

    A missing file sets nothing, unless it is `required`.

    Raises:
        ConfigError: it cannot be read, or is not a YAML mapping.
    """
    try:
        text = location.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if required:
            raise ConfigError([f"{name}: no such file"]) from None
        return {}
    except UnicodeDecodeError as error:
        raise ConfigError([f"{name}: is not UTF-8 text (byte {error.start})"]) from error
    except OSError as error:
        raise ConfigError([f"{name}: cannot be read: {error.strerror}"]) from error
    return _sections(_mapping(text, name))


def _mapping(text: str, name: str) -> Mapping[Any, Any]:
    try:
        values = yaml_document.load(text)
    except ValueError as error:
        raise ConfigError([f"{name}: {error}"]) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError([f"{name}: must be a mapping of settings"])
    return values


def _sections(values: Mapping[Any, Any]) -> dict[str, Any]:
    sections = _without_none(values, [name for name in Config.model_fields if name not in SCALARS])
    for name in NAMED_SECTIONS & sections.keys():
        if isinstance(sections[name], dict):
            sections[name] = _without_none(sections[name], tuple(sections[name]))
    return sections


def _without_none(values: Mapping[Any, Any], sections: Sequence[Any]) -> dict[str, Any]:
    """Make sections empty whose settings are all commented out, which YAML reads as null."""
    return {
        str(key): {} if value is None and key in sections else value
        for key, value in values.items()
    }
