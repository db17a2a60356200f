"""The command lines, as typed values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonOptions:
    """What the command lines of all runs have in common; None is what was not given."""

    output_dir: str | None
    broker: str | None
    as_json: bool
    quiet: bool
    dry_run: bool
    detach: bool
    run_key: str | None
    priority: int
    wait_for_workers: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelOptions(CommonOptions):
    """The command line of `clinvk parallel`."""

    file: str | None
    max_parallel: int | None
    fail_fast: bool | None
    lenient: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOptions(CommonOptions):
    """The command line of `clinvk chain`."""

    file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions(CommonOptions):
    """The command line of `clinvk compare`."""

    prompt: str | None
    file: str | None
    backends: str | None
    all_backends: bool
    sequential: bool
    side_by_side: bool
