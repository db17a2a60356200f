"""`clinvk retry`: run tasks of a run again, in the same run."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from clinvk.commands import runs
from clinvk.commands.budgets import prepare_retry
from clinvk.commands.options import given_cost, given_tokens, parse_kinds
from clinvk.core import exit_codes
from clinvk.core.errors import ClinvkError, UsageError
from clinvk.core.requirements import Requirements
from clinvk.core.spec import ErrorKind, RunOptions, RunSummary, TaskSpec
from clinvk.local import reach
from clinvk.output.kinds import formatter_of
from clinvk.output.money import dollars
from clinvk.output.presenter import Presenter
from clinvk.output.reporter import View
from clinvk.output.streams import note
from clinvk.runs.interruption import Interruption
from clinvk.runs.retry import NOT_RETRIED, Chosen, Selection, choose
from clinvk.runs.run_reader import EXPIRED, RunIsGoneError
from clinvk.taskfile import edits, sources

if TYPE_CHECKING:
    from clinvk.config.settings import Settings
    from clinvk.runs.celery_client import CeleryClient
    from clinvk.runs.celery_run import CeleryRun, RetriedRun

CHOICES = 5
"""How often tasks are chosen again, because another retry came in between."""
RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions:
    """The arguments of `clinvk retry`; `kinds` and `indexes` may have several with commas."""

    run: str
    failed: bool
    kinds: Sequence[str]
    indexes: Sequence[str]
    is_all: bool
    edit: str | None
    max_parallel: int | None
    max_cost: str | None
    max_tokens_total: str | None
    allow_unknown_cost: bool
    detach: bool
    wait_for_workers: bool
    broker: str | None
    paths: Mapping[str, str]
    as_json: bool
    quiet: bool
    verbose: bool

    def view(self) -> View:
        """Return the output that was asked for."""
        return View(
            as_json=self.as_json, quiet=self.quiet, with_steps=self.verbose, paths=self.paths
        )

    def budget(self) -> RunOptions:
        """Return what the run may use from now on, as far as that is given.

        Raises:
            UsageError: an amount cannot be read.
        """
        return RunOptions(
            max_micro_usd=given_cost(self.max_cost),
            max_total_tokens=given_tokens(self.max_tokens_total),
            allow_unknown_cost=self.allow_unknown_cost,
        )


def retry(settings: Settings, options: RetryOptions) -> int:
    """Retry tasks of a run, and follow it unless it is detached; returns the run's exit code."""
    given = [options.failed, bool(options.kinds), bool(options.indexes), options.is_all]
    if sum(given) > 1:
        raise UsageError("choose tasks by one of --failed, --kind, --index and --all")
    kinds = parse_kinds(options.kinds, ErrorKind)
    reopen = partial(
        reach.resumed,
        settings,
        detach=options.detach,
        backends=settings.installed() if options.edit is not None else (),
        max_parallel=options.max_parallel,
    )
    with reach.has_run(settings, options.broker, options.run, reopen) as client:
        run = client.open(options.run)
        retrying = _Retrying(settings, options, client, run, kinds)
        return retrying.carry_out()


def parse_indexes(given: Sequence[str], run: str, total: int) -> frozenset[int] | None:
    """Return the indexes that `--index` names, from 0; None where it was not given.

    Raises:
        UsageError: one is no number or range, or the run has no such task.
    """
    found = set[int]()
    for part in (part.strip() for text in given for part in text.split(",")):
        if (match := RANGE.fullmatch(part)) is None:
            raise UsageError(f'--index: "{part}" is no number, or range such as 7-9')
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise UsageError(f"--index: {part} ends before it begins")
        for number in (first, last):
            if not 1 <= number <= total:
                raise UsageError(f"--index: run {run} has no task {number}: it has {total}, from 1")
        found.update(range(first - 1, last))
    return frozenset(found) or None


class _Retrying:
    """One call of the command."""

    def __init__(
        self,
        settings: Settings,
        options: RetryOptions,
        client: CeleryClient,
        run: CeleryRun,
        kinds: frozenset[ErrorKind],
    ) -> None:
        self._settings = settings
        self._options = options
        self._client = client
        self._run = run
        self._budget = options.budget()
        self._selection = Selection(
            is_all=options.is_all,
            kinds=kinds,
            indexes=parse_indexes(options.indexes, run.id, run.total),
        )

    def carry_out(self) -> int:
        summary = self._run.summary()
        self._check_budget(summary)
        runs.check_goes_on(summary)
        edited = self._edits(summary)
        for _ in range(CHOICES):
            chosen = choose(self._run, summary, self._selection)
            self._say_unfinished(chosen)
            if not chosen.indexes:
                return self._nothing(summary)
            retried = self._retry(summary, chosen, edited)
            if retried is not None:
                return retried
            summary = self._run.summary()
        raise ClinvkError(f"run {self._run.id} is being retried by somebody else: try again")

    def _check_budget(self, summary: RunSummary) -> None:
        """Refuse a limit that is used up already: it is one for the whole run.

        Raises:
            UsageError: nothing could start.
        """
        spent = self._client.store.spending_of(self._run.id)
        cost = sum(row.spending.micro_usd for row in spent) + summary.assumed_micro_usd
        tokens = sum(row.spending.total_tokens for row in spent) + summary.assumed_tokens
        limit, most = self._budget.max_micro_usd, self._budget.max_total_tokens
        if limit is not None and limit <= cost:
            raise UsageError(
                f"--max-cost: the run has used {dollars(cost)} already, and this is the limit of "
                f"all that it uses (got {dollars(limit)})"
            )
        if most is not None and most <= tokens:
            raise UsageError(
                f"--max-tokens-total: the run has used {tokens} already, and this is the limit of "
                f"all that it uses (got {most})"
            )

    def _edits(self, summary: RunSummary) -> edits.Edits | None:
        if self._options.edit is None:
            return None
        with sources.opened(self._options.edit, sys.stdin.buffer) as (stream, name):
            return edits.parse(
                stream,
                name,
                self._settings.backends,
                self._settings.resolve,
                is_ordered=summary.kind == "chain",
            )

    def _say_unfinished(self, chosen: Chosen) -> None:
        if chosen.unfinished:
            note(f"{chosen.unfinished} more run or wait still: they are left alone")

    def _nothing(self, summary: RunSummary) -> int:
        """Say that nothing is to run; as JSON there is the document as it is."""
        which = "that is not ok"
        if self._options.is_all or self._options.indexes:
            which = "among these that has ended"
        elif self._selection.kinds:
            which = f"whose error is {' or '.join(sorted(self._selection.kinds))}"
        note(f"nothing to retry: run {self._run.id} has no {self._unit(summary)} {which}")
        if self._options.as_json:
            runs.results(self._client, self._run.id, as_json=True, only_failed=False)
        return exit_codes.OK

    def _unit(self, summary: RunSummary) -> str:
        return formatter_of(summary.kind).unit.removesuffix("s")

    def _retry(self, summary: RunSummary, chosen: Chosen, edited: edits.Edits | None) -> int | None:
        """Retry and follow; None where the tasks have to be chosen again."""
        specs = list(self._run.specs()) if edited is not None else self._run.specs()
        changed = {}
        if edited is not None:
            changed = edits.matched(edited, self._options.edit or "", specs, chosen.indexes)
            specs = [changed.get(index, spec) for index, spec in enumerate(specs)]
        self._settings.load_backends({name for spec in changed.values() for name in spec.backends})
        if not (self._options.wait_for_workers or self._client.is_private):
            self._client.check_served(
                self._choices(specs, chosen), Requirements.of(summary.requires)
            )
        presenter = self._presenter(summary, specs, len(chosen.indexes))
        prepare_retry(self._settings, self._client, self._run.id, self._budget)
        with presenter.interruption() as interruption:
            retried = self._client.retry(
                self._run,
                {index: changed.get(index) for index in chosen.indexes},
                summary.retries,
                self._options.max_parallel,
                self._budget,
            )
            return None if retried is None else self._follow(retried, presenter, interruption)

    def _choices(self, specs: Sequence[TaskSpec], chosen: Chosen) -> set[tuple[str, ...]]:
        """Return which backends may run the tasks that are chosen.

        Raises:
            RunIsGoneError: a task is no longer there.
        """
        found = set()
        for index in chosen.indexes:
            spec = specs[index]
            if spec == EXPIRED:
                raise RunIsGoneError(NOT_RETRIED["gone"].format(self._run.id))
            found.add(spec.choices)
        return found

    def _presenter(self, summary: RunSummary, specs: Sequence[TaskSpec], count: int) -> Presenter:
        most = self._options.max_parallel or summary.max_parallel
        formatter = formatter_of(summary.kind)
        return Presenter(
            self._options.view(),
            formatter,
            specs,
            RunOptions(max_parallel=most, fail_fast=summary.fail_fast),
            f"Retrying {count} of {len(specs)} {formatter.unit} (max {most} parallel)...",
        )

    def _follow(self, run: RetriedRun, presenter: Presenter, interruption: Interruption) -> int:
        if self._options.detach:
            presenter.submitted(run.id)
            return exit_codes.OK
        return presenter.show(run, interruption)
