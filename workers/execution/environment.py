"""The environment of the commands of this worker: one for each backend, made once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from clinvk.backends.base import Backend, Command
from clinvk.core.child_environment import OWN_PREFIX, conditional, matches, passed
from clinvk.core.worker_config import WorkerConfig
from workers.execution.masking import secrets_in

_NAME = re.compile(r"\b[A-Z_][A-Z0-9_]{2,}\b")


class Environments:
    """What the commands of each backend get of this process's environment.

    That is an allow-list (`clinvk/core/child_environment.py`), to which the backend adds what its
    CLI reads, and the configuration what it names: `worker.pass_env`, `backends.<name>.pass_env`
    and `backends.<name>.env`.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._of = lru_cache(self._make)
        self._decoded = lru_cache(lambda backend: decoded(self._of(backend)))
        self._secrets_of = lru_cache(self._find_secrets)

    def of(self, backend: Backend) -> Mapping[bytes, bytes]:
        """Return the environment of a backend's commands, without what the command itself adds."""
        # In bytes, and made once: to decode and encode each variable for each command would take a
        # fifth of the time that it takes to start one.
        return self._of(backend)

    def decoded(self, backend: Backend) -> Mapping[str, str]:
        """Return the same as text."""
        return self._decoded(backend)

    def secrets(self, backend: Backend, command: Command) -> frozenset[str]:
        """Return the values in a command's environment that must not be seen (`masking`)."""
        inherited = self._secrets_of(backend, command.secret_env)
        return inherited | secrets_in(command.env, command.secret_env) if command.env else inherited

    def time_zone(self, backend: Backend) -> str | None:
        """Return the variable TZ of a backend's commands; None where it is that of this process."""
        tz = self._configured(backend).get("TZ")
        return tz if tz != os.environ.get("TZ") else None

    def _find_secrets(self, backend: Backend, names: frozenset[str]) -> frozenset[str]:
        return secrets_in(self.decoded(backend), names | self._configured(backend).keys())

    def _configured(self, backend: Backend) -> Mapping[str, str]:
        own: Mapping[str, Mapping[str, str]] = self._config.environments.get(backend.name, {})
        return own.get("env", {})

    def _make(self, backend: Backend) -> Mapping[bytes, bytes]:
        own = self._config.environments.get(backend.name, {})
        added = self._configured(backend)
        patterns = (
            *backend.pass_env,
            *conditional({**os.environ, **added}, backend.pass_env_if),
            *self._config.pass_env,
            *own.get("pass_env", ()),
        )
        variables = {**passed(os.environ, patterns), **added}
        if not self._config.cli_retries:
            self._quieten(variables, backend)
        return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}

    def _quieten(self, variables: dict[str, str], backend: Backend) -> None:
        """Set what keeps a CLI from trying again by itself, unless the configuration names it."""
        own = self._config.environments.get(backend.name, {})
        named = (*self._configured(backend), *self._config.pass_env, *own.get("pass_env", ()))
        for name, value in backend.quiet_env.items():
            if name in variables and matches(name, named):
                continue
            variables.pop(name, None)
            if value is not None:
                variables[name] = value

    def quiet_arguments(self, backend: Backend) -> tuple[str, ...] | None:
        """Return `Confinement.quiet` for the commands of a backend."""
        if self._config.cli_retries:
            return None
        environment = self.decoded(backend)
        home = environment.get("HOME", "")

        def read(path: str) -> str | None:
            located = Path(home + path[1:] if path.startswith("~/") else path)
            try:
                return located.read_text(encoding="utf-8")
            except (OSError, ValueError):
                return None

        return backend.quiet_arguments(environment, read)

    def withheld(self, backend: Backend, text: str) -> str | None:
        """Return the first variable named in `text` that is set here, and that its CLI did not get.

        A CLI that misses its key says so by the key's name.
        """
        known = self._of(backend)
        for match in _NAME.finditer(text):
            name = match[0]
            is_set = name in os.environ and not name.startswith(OWN_PREFIX)
            if is_set and os.fsencode(name) not in known:
                return name
        return None


def decoded(environment: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return an environment as text."""
    return {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()}
