"""What becomes of a task after an execution: its end, or another try. Pure: no clock, no I/O.

A limit of the provider holds a task back until it opens, for as long as the task may wait; what
passes is tried again, a few times; where neither helps, the task goes on at its next fallback. A
task that has acted, with a tool that can change something, is not started over: it goes on in its
CLI's session, or where nothing can have changed, or where its submitter allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from clinvk.core.history import History, routes
from clinvk.core.limit_waits import over_wait, told
from clinvk.core.replaced import replaced
from clinvk.core.spec import MOST_TRIES, ErrorKind, TaskResult, TaskSpec, Try, Usage, backend_of
from clinvk.core.steps import Step, StepKind
from clinvk.store.types import Claim, Hold
from workers.execution.assignment import Assignment

BURST_DELAYS_SECONDS = (30.0, 60.0, 300.0)
"""How long a burst limit that does not say when it opens holds a task back at most, by how often it
was refused."""
LEAST_DELAY_SECONDS = 1.0
HINT_JITTER = 0.1
"""By how much more than a hint says a task is held back at most, so that not all come at once."""
MINUTE_MS = LEFT_OUT_MS = 60_000
"""A CLI that names the minute in which a limit opens has left out up to so much."""
RETRY_SECONDS = 30.0
RETRY_FACTOR = 4.0
LONGEST_RETRY_SECONDS = 600.0

FALL_BACK_ON = frozenset(
    {
        *(ErrorKind.NOT_INSTALLED, ErrorKind.AUTH, ErrorKind.QUOTA),
        *(ErrorKind.USAGE_LIMIT, ErrorKind.RATE_LIMITED, ErrorKind.OVERLOADED),
    }
)
"""What is no fault of the task, and may not be so elsewhere."""
NEVER_AGAIN = frozenset({ErrorKind.CANCELED, ErrorKind.LOST})
NOT_STARTED_OVER = (
    "not tried again, because it had called tools that can change something; "
    "retry_after_changes: true allows it"
)

Random = Callable[[], float]
"""Returns a number from 0 to 1, without 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of one execution, with what its result does not say.

    `worker` is this one, as the store knows it. `assignment` is None where no task could be made of
    what was claimed. `may_have_acted` counts earlier executions of the same session, and is so
    where a part of what the CLI did is not known. `is_contained`: it could change nothing.
    `session` is the id of its session, `session_usage` what the CLI has counted in it so far.
    `is_final`: it is not tried again, whatever its kind.
    """

    result: TaskResult
    worker: str
    assignment: Assignment | None = None
    may_have_acted: bool = False
    is_contained: bool = False
    can_resume: bool = False
    limited_model: bool = False
    at_capacity: bool = False
    session: str | None = None
    session_usage: Usage | None = None
    is_final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBack:
    """A task that is to be tried again; `result` is its end where the store says that it cannot be.

    `refusal` says why it is not, where that is not for want of time.
    """

    hold: Hold
    result: TaskResult
    refusal: str = ""

    def over(self, until_ms: int, waited_ms: int, rejections: int) -> TaskResult:
        """Return its end, given when the limit opens (ms) and how limits held it up."""
        return told(replace(self.result, error=self._error(until_ms)), waited_ms, rejections)

    def shown(self, queue: str, delay_ms: int) -> Step:
        """Return the step that tells of it: it goes on in a queue, after a delay."""
        kind = self.result.error_kind
        return Step(
            kind=StepKind.RETRY,
            text=f"put back after {kind}, for {backend_of(queue)}",
            error_kind=kind,
            delay_seconds=max(0, delay_ms) / 1000,
        )

    def _error(self, until_ms: int) -> str | None:
        said, hold = self.result.error, self.hold
        if self.refusal:
            return f"{said} ({self.refusal})"
        if not hold.signal or not hold.max_wait_ms or hold.delay_ms is None:
            return said
        kind = self.result.error_kind or ErrorKind.RATE_LIMITED
        opens_ms = _ms(self.result.retry_at) or until_ms
        return over_wait(kind, opens_ms, hold.max_wait_ms / 1000, said or "")


def after(ended: Ended, claim: Claim, now_ms: int, random: Random) -> TaskResult | PutBack:
    """Decide what becomes of a task; `now_ms` is the time by the server's clock."""
    result, assignment = ended.result, ended.assignment
    kind = result.error_kind
    if assignment is None or ended.is_final or kind is None or kind in NEVER_AGAIN:
        return told(_whole(ended), claim.waited_ms, claim.rejections)
    decision = _Decision(ended, assignment, kind, claim, now_ms, random)
    plan = decision.plan()
    if decision.signal or not plan.is_end:
        return decision.put_back(plan)
    error = f"{result.error} ({plan.refusal})" if plan.refusal else result.error
    return told(replace(_whole(ended), error=error), claim.waited_ms, claim.rejections)


def _whole(ended: Ended) -> TaskResult:
    """Add to a result which of several backends it is of, and what was tried before."""
    if (assignment := ended.assignment) is None:
        return ended.result
    return replaced(
        ended.result,
        backend=assignment.variant.backend if assignment.spec.has_several else None,
        tried=list(assignment.history.tried),
    )


def may_start_over(spec: TaskSpec, *, is_contained: bool) -> bool:
    """Whether a task that has acted may be started from its beginning again."""
    return is_contained or spec.retry_after_changes is True


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a task is to be tried again: where it was, after a delay; on other routes; or not at all.

    With `resumes` it goes on in its session where it was.
    """

    delay_ms: int | None
    routes: Sequence[tuple[str, str]]
    resumes: bool = False
    refusal: str = ""

    @property
    def is_end(self) -> bool:
        """Whether it is not tried again."""
        return self.delay_ms is None and not self.routes


class _Decision:
    """One decision, for a task that has failed."""

    def __init__(
        self,
        ended: Ended,
        assignment: Assignment,
        kind: ErrorKind,
        claim: Claim,
        now_ms: int,
        random: Random,
    ) -> None:
        self.signal = _signal(kind, at_capacity=ended.at_capacity)
        self._ended, self._kind, self._claim = ended, kind, claim
        self._assignment, self._spec = assignment, assignment.spec
        self._now_ms, self._random = now_ms, random
        self._retry_at_ms = _opens_ms(ended.result.retry_at)

    def plan(self) -> _Plan:
        """Say how to try it again."""
        if not self._spec.knows_of_limits:
            return _Plan(None, ())
        plan = _Plan(self._delay_ms(), self._routes())
        return self._after_acting(plan) if self._ended.may_have_acted and not plan.is_end else plan

    def _after_acting(self, plan: _Plan) -> _Plan:
        """Start nothing over that has acted, unless that may be."""
        ended = self._ended
        is_free = may_start_over(self._spec, is_contained=ended.is_contained)
        if ended.can_resume and ended.session and plan.delay_ms is not None:
            return replace(plan, resumes=True, routes=plan.routes if is_free else ())
        return plan if is_free else _Plan(None, (), refusal=NOT_STARTED_OVER)

    def put_back(self, plan: _Plan) -> PutBack:
        """Return what to tell the store."""
        hold = Hold(
            signal=self.signal,
            model=self._limited_model(),
            retry_at_ms=self._retry_at_ms,
            delay_ms=plan.delay_ms,
            max_wait_ms=self._spec.max_wait_ms,
            kind=self._kind.value,
            worker=self._ended.worker,
            pinned=self._ended.worker if plan.resumes else "",
            history="" if plan.is_end else self._history(plan).to_wire().decode(),
            routes=plan.routes,
            result=self._ended.result,
        )
        return PutBack(hold=hold, result=_whole(self._ended), refusal=plan.refusal)

    def _delay_ms(self) -> int | None:
        """Return for how long to hold it back where it was; None if it is not tried there again."""
        if self.signal:
            if self._spec.max_wait_seconds == 0:
                return None
            return 0 if self.signal == "window" else int(self._burst_delay_seconds() * 1000)
        return int(self._retry_delay_seconds() * 1000) if self._may_retry() else None

    def _may_retry(self) -> bool:
        is_worth_it = self._kind is ErrorKind.OVERLOADED or self._kind in (
            self._spec.retry_on or ()
        )
        return is_worth_it and self._claim.retries < (self._spec.retries or 0)

    def _burst_delay_seconds(self) -> float:
        if self._retry_at_ms is not None:
            hint_seconds = max(LEAST_DELAY_SECONDS, (self._retry_at_ms - self._now_ms) / 1000)
            return hint_seconds * (1 + HINT_JITTER * self._random())
        step = min(self._claim.rejections, len(BURST_DELAYS_SECONDS) - 1)
        return max(LEAST_DELAY_SECONDS, BURST_DELAYS_SECONDS[step] * self._random())

    def _retry_delay_seconds(self) -> float:
        longest = RETRY_SECONDS * RETRY_FACTOR ** min(self._claim.retries, 10)
        return min(longest, LONGEST_RETRY_SECONDS) * self._random()

    def _routes(self) -> list[tuple[str, str]]:
        """Return where it may go on instead; a retry where it was comes before."""
        is_retried = not self.signal and self._may_retry()
        if self._kind not in FALL_BACK_ON or is_retried:
            return []
        assignment = self._assignment
        return routes(self._spec, assignment.entry, assignment.history)

    def _limited_model(self) -> str:
        """Return the model whose limit it is, if the store knows the task as one for this model."""
        model = self._assignment.variant.model or ""
        is_main = self._assignment.entry == self._spec.backend
        is_known = self._claim.model == model or (is_main and not self._claim.model)
        return model if self._ended.limited_model and is_known else ""

    def _history(self, plan: _Plan) -> History:
        before, entry = self._assignment.history, self._assignment.entry
        history = History(
            tried=[*before.tried, self._try()][-MOST_TRIES:],
            entries=list(dict.fromkeys((*before.entries, entry))),
        )
        if not plan.resumes:
            return history
        return replace(
            history,
            session=self._ended.session,
            session_entry=entry,
            session_worker=self._ended.worker,
            session_usage=self._ended.session_usage,
            may_start_over=may_start_over(self._spec, is_contained=self._ended.is_contained),
        )

    def _try(self) -> Try:
        result, variant = self._ended.result, self._assignment.variant
        return replace(Try.of(result), backend=variant.backend, model=result.model or variant.model)


def _signal(kind: ErrorKind, *, at_capacity: bool) -> str:
    """Return what a kind of error says of the provider's limits, see lua/lib/gates.lua."""
    match kind:
        case ErrorKind.USAGE_LIMIT:
            return "window"
        case ErrorKind.RATE_LIMITED:
            return "burst"
        case ErrorKind.OVERLOADED if at_capacity:
            return "burst"
        case _:
            return ""


def _ms(moment: str | None) -> int | None:
    return None if moment is None else round(datetime.fromisoformat(moment).timestamp() * 1000)


def _opens_ms(moment: str | None) -> int | None:
    """Return when a limit is open for certain."""
    at_ms = _ms(moment)
    return at_ms if at_ms is None or at_ms % MINUTE_MS else at_ms + LEFT_OUT_MS
