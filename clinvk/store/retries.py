"""Retries: tasks of a run that run again, and the results that they had before."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence

from clinvk.core.spec import RunOptions, TaskResult, TaskSpec
from clinvk.store import decoding, leases
from clinvk.store.keys import key
from clinvk.store.runs import SUBMIT_CHUNK, SUBMITTING_MS, Runs
from clinvk.store.types import Lease, Retried


def _template(result: TaskResult) -> str:
    """Return a result of any task as the scripts fill it in."""
    return result.to_wire().decode().replace('"index":0', '"index":@INDEX@', 1)


NEVER_STARTED = _template(TaskResult.never_started(0))
OVER_BUDGET = _template(TaskResult.never_started(0, is_over_budget=True))
"""The results of a task that never started: its run was canceled, or came to a budget."""


def _or_empty(number: int | None) -> int | str:
    return "" if number is None else number


class Retries(Runs):
    """The operations on tasks that run again."""

    def retry(
        self,
        run: str,
        tasks: Mapping[int, TaskSpec | None],
        seen_retries: int,
        max_parallel: int | None = None,
        budget: RunOptions | None = None,
    ) -> Retried:
        """Run tasks of a run again: by index, with new specs or None for those that they have.

        They were chosen when the run had been retried `seen_retries` times. Like a submission,
        they are recorded first, and in chunks. What `budget` sets of one is the run's from now on.
        """
        budget = budget or RunOptions()
        ticket, submitter = f"{run}.{secrets.token_hex(8)}", self.submitter or ""
        submission = key("submission_specs", f"{submitter}:{ticket}")
        rows = [(str(index), spec.to_wire() if spec else b"") for index, spec in tasks.items()]
        for first in range(0, len(rows), SUBMIT_CHUNK):
            self.redis.hset(submission, mapping=dict(rows[first : first + SUBMIT_CHUNK]))
        self.redis.pexpire(submission, SUBMITTING_MS)
        verdict, position, admission = self.call(
            "retry",
            run=run,
            ticket=ticket,
            submitter=submitter,
            seen_retries=seen_retries,
            max_parallel=max_parallel or "",
            max_cost=_or_empty(budget.max_micro_usd),
            max_tokens=_or_empty(budget.max_total_tokens),
            allow_unknown="1" if budget.allow_unknown_cost else "",
            never_started=NEVER_STARTED,
            over_budget=OVER_BUDGET,
            claim_timeout_ms=leases.CLAIM_TIMEOUT_MS,
        )
        if verdict != b"retried":
            self.redis.unlink(submission)
        return Retried(decoding.text(verdict), position.decode(), decoding.admission(admission))

    def earlier_results(self, run: str, indexes: Sequence[int]) -> Iterator[TaskResult | None]:
        """Read what tasks had as their results before the retry that has not replaced them yet."""
        if not indexes:
            return
        found = self.redis.hmget(key("earlier_results", run), [str(index) for index in indexes])
        for index, entry in zip(indexes, found, strict=True):
            result = decoding.earlier(index, entry or b"")
            yield result and self._load_large(run, result)

    def after_earlier(self, lease: Lease, result: TaskResult) -> TaskResult:
        """Return the result of a task that nobody has claimed, with what was tried before."""
        return result.after(next(self.earlier_results(lease.run, [lease.index])))

    def retried_dispatches(self, run: str) -> Mapping[int, int]:
        """Return up to which dispatch what happened to a task counts no more, by index."""
        found = self.redis.hgetall(key("dispatches", run)).items()
        return {int(index): int(dispatch) for index, dispatch in found}
