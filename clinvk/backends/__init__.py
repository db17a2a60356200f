"""The backends that a worker has: the built-in ones and those defined in configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from clinvk.backends.base import Backend
from clinvk.backends.claude import Claude
from clinvk.backends.codex import Codex
from clinvk.backends.configured import Configured
from clinvk.backends.echo import Echo
from clinvk.backends.gemini import Gemini

BUILTIN: tuple[Backend, ...] = (Claude(), Codex(), Gemini(), Echo())


def builtin_names() -> tuple[str, ...]:
    """Return the names of the built-in backends, in the order in which they are shown."""
    return tuple(backend.name for backend in BUILTIN)


class BackendRegistry:
    """Backends by name."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self._backends = dict(backends)

    @classmethod
    def from_config(cls, configured: Mapping[str, Mapping[str, Any]]) -> Self:
        """Give the built-in backends and those of a configuration, `{name: {command, env}}`."""
        return cls(
            {backend.name: backend for backend in BUILTIN}
            | {name: Configured(name, **entry) for name, entry in configured.items()}
        )

    def names(self) -> tuple[str, ...]:
        """Return all names."""
        return tuple(self._backends)

    def get(self, name: str) -> Backend:
        """Return the backend of this name.

        Raises:
            KeyError: there is none; the message names those that there are.
        """
        try:
            return self._backends[name]
        except KeyError:
            known = ", ".join(sorted(self._backends))
            raise KeyError(f'no backend "{name}" (there are {known})') from None
