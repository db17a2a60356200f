"""The backends of this machine: those that packages provide, and those defined in configuration."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

from clinvk.backends import entry_points
from clinvk.backends.base import Backend
from clinvk.backends.configured import Configured


def packaged_names() -> tuple[str, ...]:
    """Return the names of the backends that packages provide, clinvk's own among them."""
    return tuple(entry_points.found())


class BackendRegistry:
    """Backends by name. A configured one replaces a packaged one of the same name.

    `likes` are the names of others, each with the packaged backend whose CLI it runs.
    """

    def __init__(
        self, configured: Mapping[str, Backend], likes: Mapping[str, str] | None = None
    ) -> None:
        self._configured = dict(configured)
        self._likes = dict(likes or {})

    @classmethod
    def from_config(cls, configured: Mapping[str, Mapping[str, Any]]) -> Self:
        """Give the packaged backends and those of a configuration.

        `configured` has for each name `{command, env}`, or `{like}`.
        """
        return cls(
            {
                name: Configured(name, **entry)
                for name, entry in configured.items()
                if "like" not in entry
            },
            {name: entry["like"] for name, entry in configured.items() if "like" in entry},
        )

    def names(self) -> tuple[str, ...]:
        """Return all names, the packaged ones first. Nothing is imported for it."""
        return tuple(dict.fromkeys((*packaged_names(), *self._configured, *self._likes)))

    def get(self, name: str) -> Backend:
        """Return the backend of this name; a packaged one is imported at the first call.

        Raises:
            KeyError: there is none; the message names those that there are.
            ConfigError: its package cannot be used.
        """
        if name in self._likes:
            like = entry_points.load(self._likes[name])
            self._configured.setdefault(name, _named(like, name))
        if name in self._configured:
            return self._configured[name]
        if name in packaged_names():
            return entry_points.load(name)
        known = ", ".join(sorted(self.names()))
        raise KeyError(f'no backend "{name}" (there are {known})')


def _named(backend: Backend, name: str) -> Backend:
    """Return a backend under another name."""
    other = copy.copy(backend)
    other.name = name
    return other
