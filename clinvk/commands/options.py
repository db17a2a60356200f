"""The options of commands as typed values: of those that submit a run, and what others share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from clinvk.core.amounts import micro_usd_of, tokens_of
from clinvk.core.durations import wait_seconds
from clinvk.core.errors import UsageError
from clinvk.core.suggestions import did_you_mean

Kind = TypeVar("Kind", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonOptions:
    """The options that all of them have; None is an option that was not given.

    Each has the default of the command line, so that programs (`clinvk.api`) may leave it out.

    `paths` has the paths of the output forms that write files, by the form's name.
    """

    file: str | None = None
    max_wait: str | None = None
    max_cost: str | None = None
    max_tokens_total: str | None = None
    allow_unknown_cost: bool = False
    estimate: bool = False
    reuse: bool | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    broker: str | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    dry_run: bool = False
    detach: bool = False
    run_key: str | None = None
    priority: int = 0
    wait_for_workers: bool = False

    def own_files(self) -> list[str]:
        """Return the files and directories that the command line names."""
        return [path for path in (self.file, *self.paths.values()) if path is not None]

    @property
    def max_wait_seconds(self) -> float | None:
        """For how long limits may hold up a task; None where it is not given.

        Raises:
            UsageError: it is no duration.
        """
        try:
            return None if self.max_wait is None else wait_seconds(self.max_wait)
        except ValueError as error:
            raise UsageError(f'--max-wait: {error} (got "{self.max_wait}")') from error


def given_cost(text: str | None) -> int | None:
    """Return what `--max-cost` says, in millionths of a dollar; None where it is not given.

    Raises:
        UsageError: it is no amount.
    """
    try:
        return None if text is None else micro_usd_of(text)
    except ValueError as error:
        raise UsageError(f'--max-cost: {error} (got "{text}")') from error


def given_tokens(text: str | None) -> int | None:
    """Return what `--max-tokens-total` says; None where it is not given.

    Raises:
        UsageError: it is no number of tokens.
    """
    try:
        return None if text is None else tokens_of(int(text) if text.isdecimal() else text)
    except ValueError as error:
        raise UsageError(f'--max-tokens-total: {error} (got "{text}")') from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelOptions(CommonOptions):
    """The options of `clinvk parallel`. With a `prompt` there is no file of tasks.

    `requires` is one of programs alone; it is instead of that of a file.
    """

    prompt: str | None = None
    each: tuple[str, ...] = ()
    each_line: str | None = None
    backend: str | None = None
    max_parallel: int | None = None
    fail_fast: bool | None = None
    lenient: bool = False
    requires: Mapping[str, Any] | None = None

    def own_files(self) -> list[str]:
        """Return the files and directories that the command line names."""
        named = CommonOptions.own_files(self)
        return named if self.each_line is None else [*named, self.each_line]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOptions(CommonOptions):
    """The options of `clinvk chain`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions(CommonOptions):
    """The options of `clinvk compare`."""

    prompt: str | None = None
    backends: str | None = None
    all_backends: bool = False
    sequential: bool = False
    side_by_side: bool = False
    workspace: str | None = None
    schema: str | None = None
    verify: str | None = None

    @property
    def task_fields(self) -> Mapping[str, str | None]:
        """The options that are fields of each task; None is one that was not given."""
        return {"workspace": self.workspace, "schema": self.schema, "verify": self.verify}


def parse_kinds(given: Sequence[str], known: type[Kind]) -> frozenset[Kind]:
    """Return the kinds that `--kind` names, each time several with commas between them.

    Raises:
        UsageError: one is not known.
    """
    names = [name.strip() for part in given for name in part.split(",")]
    for name in names:
        if name not in set(known):
            hint = did_you_mean(name, known)
            raise UsageError(f'--kind: unknown kind "{name}"{hint} ({", ".join(known)})')
    return frozenset(map(known, names))
