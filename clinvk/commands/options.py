"""The options of each command that submits a run, as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clinvk.core.durations import wait_seconds
from clinvk.core.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonOptions:
    """The options that all of them have; None is an option that was not given.

    `paths` has the paths of the output forms that write files, by the form's name.
    """

    max_wait: str | None

    paths: Mapping[str, str]
    broker: str | None
    as_json: bool
    quiet: bool
    verbose: bool
    dry_run: bool
    detach: bool
    run_key: str | None
    priority: int
    wait_for_workers: bool

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelOptions(CommonOptions):
    """The options of `clinvk parallel`. With a `prompt` there is no file of tasks."""

    file: str | None
    prompt: str | None
    each: tuple[str, ...]
    each_line: str | None
    backend: str | None
    max_parallel: int | None
    fail_fast: bool | None
    lenient: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOptions(CommonOptions):
    """The options of `clinvk chain`."""

    file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions(CommonOptions):
    """The options of `clinvk compare`."""

    prompt: str | None
    file: str | None
    backends: str | None
    all_backends: bool
    sequential: bool
    side_by_side: bool
