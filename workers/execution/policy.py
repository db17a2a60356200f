"""What this machine accepts, decided by its owner and checked before anything is started.

A client may ask for anything; the worker's policy file says what it gets. A task that the policy
refuses has a result of kind `refused` that names the rule; it is never run with less than it asked
for. What a task leaves open, the policy decides: a task without a time limit gets the maximum.

Modes are ordered by how much they permit:

    sandbox    read-only < workspace < full
    approval   always (whatever needs approval is refused) < default < auto < none

A sandbox mode that is not given, or `default`, is the CLI's own, which differs between CLIs and
versions. Where the operating system enforces modes, such a task gets the maximum; elsewhere it is
within a maximum only if that is the highest mode. As an approval mode `default` has a place in the
order: runs are unattended, so a CLI's own default refuses what it would ask for.

A backend from the configuration has no modes, models or turns, and may do what its program does:
with a maximum in force that nothing enforces, it must be named in `backends`. A task's `extra`
arguments could undo whatever a CLI is told by its command line, and `allowed_tools` what a mode
closes: then only those that the policy names are accepted.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from clinvk.backends.base import RESTRICTED_MODES, Backend, Confinement
from clinvk.core.replaced import replaced
from clinvk.core.shell import shown
from clinvk.core.spec import TaskSpec
from workers.execution.directory import Directory, OutsideError, open_directory

SANDBOX_ORDER = ("read-only", "workspace", "full")
APPROVAL_ORDER = ("always", "default", "auto", "none")

_Value = TypeVar("_Value")

_ONE_TOOL = re.compile(r"[^\s(),]+(\([^(),]*\))?")
"""A tool as the CLIs name it, such as `Bash(git *)`. They split at commas, some also within the
parentheses, so an entry with more in it could hide a second tool from the patterns."""


class PolicyError(Exception):
    """A task that this machine's policy refuses; the message names the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy; None is no restriction.

    `models`, `extra`, `allowed_tools`, `backends`, `setup`, `verify` and `repos` are lists of
    shell-style patterns. `workdir_roots` are directories; a task runs in one of them or below.
    `project_settings` is decided by the modes where it is None. Where `reuse` is false every
    task runs, and its result is kept for no other.
    """

    max_sandbox_mode: str | None = None
    max_approval_mode: str | None = None
    max_timeout_seconds: float | None = None
    max_turns: int | None = None
    workdir_roots: Sequence[str] | None = None
    backends: Sequence[str] | None = None
    models: Sequence[str] | None = None
    extra: Sequence[str] | None = None
    allowed_tools: Sequence[str] | None = None
    project_settings: bool | None = None
    setup: Sequence[str] | None = None
    repos: Sequence[str] | None = None
    verify: Sequence[str] | None = None
    reuse: bool | None = None

    @property
    def needs_sandbox(self) -> bool:
        """Whether a maximum has to be enforced by the operating system, if anything can."""
        return self.max_sandbox_mode in RESTRICTED_MODES

    @property
    def _has_maximum(self) -> bool:
        return self.max_sandbox_mode is not None or self.max_approval_mode is not None

    @property
    def _extra_could_undo_it(self) -> bool:
        """Whether a rule is kept by the command line of a CLI, to which `extra` is added."""
        on_command_line = (self.models, self.max_turns)
        return (
            self._has_maximum
            or any(rule is not None for rule in on_command_line)
            or self.project_settings is False
        )

    def completed(self, spec: TaskSpec, *, can_enforce: bool) -> TaskSpec:
        """Return a task with the policy's maxima where it gives nothing itself.

        `can_enforce`: the operating system of this machine enforces sandbox modes.
        """
        mode = spec.sandbox_mode
        if can_enforce and mode in {None, "default"}:
            match self.max_sandbox_mode:
                case "read-only" | "workspace":
                    mode = self.max_sandbox_mode
        return replaced(
            spec,
            sandbox_mode=mode,
            timeout_seconds=_given(spec.timeout_seconds, self.max_timeout_seconds),
            max_turns=_given(spec.max_turns, self.max_turns),
            setup_timeout_seconds=_given(
                spec.setup_timeout_seconds, self.max_timeout_seconds if spec.setup else None
            ),
            verify_timeout_seconds=_given(
                spec.verify_timeout_seconds, self.max_timeout_seconds if spec.verify else None
            ),
        )

    def allows_project_settings(self, spec: TaskSpec) -> bool:
        """Whether a task's CLI may follow settings in its working directory that run programs.

        Without a rule, only where nothing is restricted: they could undo a mode or a maximum.
        """
        if self.project_settings is not None:
            return self.project_settings
        return not self._has_maximum and Confinement.by_default(spec).project_settings

    def check(
        self, spec: TaskSpec, backend: Backend, *, is_configured: bool, is_enforced: bool = False
    ) -> None:
        """Check a task that `completed` returned, less where it runs.

        `is_configured`: its backend is a command line from the configuration. `is_enforced`: the
        operating system enforces the task's sandbox mode, whatever the program does.

        Raises:
            PolicyError: this machine does not accept it.
        """
        if not is_configured or spec.sandbox_mode in SANDBOX_ORDER:
            self._check_mode(
                "sandbox_mode", spec.sandbox_mode, SANDBOX_ORDER, self.max_sandbox_mode
            )
        self._check_backend(spec, is_configured and not is_enforced)
        if not is_configured:
            approval = spec.approval_mode or "default"
            self._check_mode("approval_mode", approval, APPROVAL_ORDER, self.max_approval_mode)
            self._check_model(spec)
            self._check_turns(spec, backend)
        self._check_timeout(spec)
        self._check_extra(spec)
        self._check_tools(spec)
        self._check_shells(spec)

    def _check_backend(self, spec: TaskSpec, must_be_named: bool) -> None:
        if self.backends is not None:
            _check_listed("backends", [spec.backend], self.backends)
        elif must_be_named and self._has_maximum:
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

    def _check_model(self, spec: TaskSpec) -> None:
        if self.models is None:
            return
        if spec.model is None:
            raise PolicyError(f"models: the task must name one of {_list(self.models)}")
        _check_listed("models", [spec.model], self.models)

    def _check_turns(self, spec: TaskSpec, backend: Backend) -> None:
        if self.max_turns is None or spec.max_turns is None:
            return
        if not backend.limits_turns:
            raise PolicyError(
                f'max_turns: "{spec.backend}" cannot limit turns; '
                "max_timeout_seconds limits every backend"
            )
        if spec.max_turns > self.max_turns:
            raise PolicyError(f"max_turns: {spec.max_turns} is over {self.max_turns}")

    def _check_timeout(self, spec: TaskSpec) -> None:
        maximum = self.max_timeout_seconds
        times = (spec.timeout_seconds, spec.setup_timeout_seconds, spec.verify_timeout_seconds)
        for given in times:
            if maximum is not None and given is not None and given > maximum:
                raise PolicyError(f"max_timeout_seconds: {given:g} is over {maximum:g}")

    def _check_extra(self, spec: TaskSpec) -> None:
        if self.extra is not None or self._extra_could_undo_it:
            _check_listed("extra", spec.extra, self.extra or ())

    def _check_tools(self, spec: TaskSpec) -> None:
        if self.allowed_tools is not None or self._has_maximum:
            for entry in spec.allowed_tools or ():
                if not _ONE_TOOL.fullmatch(entry):
                    raise PolicyError(f'allowed_tools: "{entry}" is not the name of one tool')
            _check_listed("allowed_tools", spec.allowed_tools or (), self.allowed_tools or ())

    def _check_shells(self, spec: TaskSpec) -> None:
        """Check the commands of a task that are no CLI's: a shell, whatever a CLI may do."""
        commands = {
            "setup": (self.setup, [spec.setup] if spec.setup else []),
            "verify": (self.verify, [shown(spec.verify)] if spec.verify else []),
        }
        for rule, (patterns, words) in commands.items():
            if patterns is not None or self._has_maximum or self.backends is not None:
                _check_listed(rule, words, patterns or ())

    def check_repository(self, url: str) -> None:
        """Check the address of a repository, which is fetched with this worker's credentials.

        Raises:
            PolicyError: this machine does not fetch it.
        """
        is_restricted = self._has_maximum or self.backends is not None
        if self.repos is not None or is_restricted or self.workdir_roots is not None:
            _check_listed("repos", [url], self.repos or ())
        elif url.startswith("git:"):
            raise PolicyError(f'repos: "{url}" is not encrypted: the policy must name it')

    def directory(self, workdir: str | None) -> str | None:
        """Return the directory that a task runs in; with roots, without symbolic links.

        Raises:
            PolicyError: it is below none of the roots.
        """
        if self.workdir_roots is None:
            return workdir
        resolved = str(Path(workdir or ".").resolve())
        if self.root_of(resolved) is None:
            self._refuse_directory(resolved)
        return resolved

    def open(self, directory: str | None) -> Directory:
        """Open what `directory` returned. It must still be below its root, however often moved.

        Raises:
            PolicyError: it is not.
            OSError: it cannot be opened.
        """
        root = self.root_of(str(directory))
        try:
            if root is None and self.workdir_roots is not None:
                raise OutsideError(directory)
            return open_directory(directory, root)
        except OutsideError:
            self._refuse_directory(str(directory))

    def root_of(self, directory: str) -> str | None:
        """Return the root that a directory without symbolic links is in, None without one."""
        roots = [str(Path(root).expanduser().resolve()) for root in self.workdir_roots or ()]
        return next((root for root in roots if Path(directory).is_relative_to(root)), None)

    def _refuse_directory(self, directory: str) -> NoReturn:
        roots = _list(self.workdir_roots or ())
        raise PolicyError(f"workdir_roots: {directory} is below none of {roots}")


def _given(given: _Value | None, otherwise: _Value | None) -> _Value | None:
    return otherwise if given is None else given


def _check_listed(rule: str, words: Sequence[str], patterns: Sequence[str]) -> None:
    for word in _unlisted(words, patterns):
        raise PolicyError(f'{rule}: "{word}" is not among {_list(patterns)}')


def _unlisted(words: Sequence[str], patterns: Sequence[str]) -> Iterator[str]:
    for word in words:
        if not any(fnmatch.fnmatchcase(word, pattern) for pattern in patterns):
            yield word


def _list(words: Sequence[str]) -> str:
    return ", ".join(words) or "(none)"
