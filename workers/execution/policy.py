"""What this machine accepts, decided by its owner and checked before anything is started.

A client may ask for anything; the worker's policy file says what it gets. A task that the policy
refuses has a result of kind `refused` that names the rule; it is never run with less than it asked
for.

Modes are ordered by how much they permit:

    sandbox    read-only < workspace < full
    approval   always (whatever needs approval is refused) < default < auto < none

A sandbox mode that is not given, or `default`, is the CLI's own, which differs between CLIs and
versions. So it is within a maximum only where that maximum is the highest mode. As an approval mode
`default` has a place in the order: runs are unattended, so a CLI's own default refuses what it
would ask for.

A backend from the configuration has no modes, and may do what its program does: with a maximum in
force it must be named in `backends`. A task's `extra` arguments can undo any mode: with a maximum
in force only those that `extra` allows are accepted.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from clinvk.backends.base import Confinement
from clinvk.core import yaml_document
from clinvk.core.errors import ConfigError
from clinvk.core.spec import TaskSpec
from clinvk.core.suggestions import did_you_mean

SANDBOX_ORDER = ("read-only", "workspace", "full")
APPROVAL_ORDER = ("always", "default", "auto", "none")


class PolicyError(Exception):
    """A task that this machine's policy refuses; the message names the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy; None is no restriction.

    `extra` and `backends` are lists of shell-style patterns. `workdir_roots` are directories; a
    task runs in one of them or below. `project_settings` is decided by the mode where it is None.
    """

    max_sandbox_mode: str | None = None
    max_approval_mode: str | None = None
    workdir_roots: Sequence[str] | None = None
    backends: Sequence[str] | None = None
    extra: Sequence[str] | None = None
    project_settings: bool | None = None

    @classmethod
    def load(cls, path: str) -> Self:
        """Read a policy file (YAML).

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
        return cls(**values)

    @property
    def _has_maximum(self) -> bool:
        return self.max_sandbox_mode is not None or self.max_approval_mode is not None

    def check(self, spec: TaskSpec, *, is_configured: bool) -> None:
        """Check a task, less where it runs. `is_configured`: its backend has no modes.

        Raises:
            PolicyError: this machine does not accept it.
        """
        self._check_backend(spec, is_configured)
        if not is_configured:
            self._check_mode(
                "sandbox_mode", spec.sandbox_mode, SANDBOX_ORDER, self.max_sandbox_mode
            )
            approval = spec.approval_mode or "default"
            self._check_mode("approval_mode", approval, APPROVAL_ORDER, self.max_approval_mode)
        self._check_extra(spec)

    def allows_project_settings(self, spec: TaskSpec) -> bool:
        """Whether a task's CLI may follow settings in its working directory that run programs.

        Without a rule, only where nothing is restricted: they could undo a mode or a maximum.
        """
        if self.project_settings is not None:
            return self.project_settings
        return not self._has_maximum and Confinement.by_default(spec).project_settings

    def _check_backend(self, spec: TaskSpec, is_configured: bool) -> None:
        if self.backends is not None:
            if not _matches(spec.backend, self.backends):
                raise PolicyError(f'backends: "{spec.backend}" is not among {_list(self.backends)}')
        elif is_configured and self._has_maximum:
            raise PolicyError(f'backends: "{spec.backend}" has no modes, and is not named there')

    def _check_mode(
        self, name: str, mode: str | None, order: Sequence[str], maximum: str | None
    ) -> None:
        if maximum is None or maximum == order[-1]:
            return
        if mode is None or mode not in order:
            raise PolicyError(f'max_{name}: the task must give one, at most "{maximum}"')
        if order.index(mode) > order.index(maximum):
            raise PolicyError(f'max_{name}: "{mode}" is over "{maximum}"')

    def _check_extra(self, spec: TaskSpec) -> None:
        if self.extra is None and not self._has_maximum:
            return
        for argument in spec.extra:
            if not _matches(argument, self.extra or ()):
                raise PolicyError(f"extra: {argument!r} is not among {_list(self.extra or ())}")
        if self._has_maximum and spec.allowed_tools and not self.extra:
            raise PolicyError(
                "extra: allowed_tools can open what a mode closes, and is not allowed"
            )

    def directory(self, workdir: str | None) -> str | None:
        """Return the directory that a task runs in: resolved once, and then used as it is.

        Raises:
            PolicyError: it is below none of the roots.
        """
        if self.workdir_roots is None:
            return workdir
        # Symbolic links are followed here and not again: what is checked is what is used.
        resolved = Path(workdir or ".").resolve()
        for root in self.workdir_roots:
            if resolved.is_relative_to(Path(root).expanduser().resolve()):
                return str(resolved)
        raise PolicyError(f"workdir_roots: {resolved} is below none of {_list(self.workdir_roots)}")


def _read(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text (byte {error.start})"]) from error
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error


def _matches(word: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(word, pattern) for pattern in patterns)


def _list(words: Sequence[str]) -> str:
    return ", ".join(words) or "(none)"


def _problems(values: Mapping[Any, Any]) -> list[str]:
    known = [field.name for field in fields(Policy)]
    problems = []
    for name, value in values.items():
        if name not in known:
            problems.append(f"{name}: unknown rule{did_you_mean(str(name), known)}")
        elif name in {"max_sandbox_mode", "max_approval_mode"}:
            order = SANDBOX_ORDER if name == "max_sandbox_mode" else APPROVAL_ORDER
            if value not in order:
                problems.append(f"{name}: must be one of {', '.join(order)} (got {value!r})")
        elif name == "project_settings":
            if not isinstance(value, bool):
                problems.append(f"{name}: must be true or false (got {value!r})")
        elif not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            problems.append(f"{name}: must be a list of strings (got {value!r})")
    return problems
