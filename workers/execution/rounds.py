"""The rounds of one execution: its CLI runs, and is told what is wrong with what came of it.

What has to hold is that the answer is valid by the task's `schema`, and that `verify` exits with 0.
A complaint is handed back to the CLI in its session, so that it repairs what it has done. A CLI
that has no session is started from its beginning, with the complaint at the end of its prompt, if
nothing has been changed that it would not find as it was. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from clinvk.backends.base import NO_SESSION, SESSION_ID, ParsedOutput, ProcessResult, Session
from clinvk.core.changes import Changes
from clinvk.core.replaced import replaced
from clinvk.core.spec import CostSource, ErrorKind, Usage, Verification
from workers.execution.preparation import PreparedTask

LEAST_SECONDS = 1.0
"""With less of a task's time left, it is not worth another round."""
ANSWER_AGAIN = (
    "Your answer is not valid by the JSON Schema that it must hold:\n{wrong}\n"
    "Answer again, in full, with JSON alone that is valid by it."
)
MEND = (
    "What you did does not hold yet. This command was run to verify it: {command}\n"
    "It exited with {code}, and its last lines are:\n\n{output}\n\n"
    "Mend that, and then answer again, in full."
)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with what a CLI did: as an error of its task, and in words for the CLI."""

    kind: ErrorKind
    error: str
    words: str

    @classmethod
    def about_answer(cls, problems: Sequence[str]) -> Complaint:
        """Return the complaint about an answer that is not valid."""
        wrong = "\n".join(f"- {problem}" for problem in problems)
        error = f"the answer is not valid by its schema: {problems[0]}"
        return cls(ErrorKind.INVALID_ANSWER, error, ANSWER_AGAIN.format(wrong=wrong))

    @classmethod
    def about_work(cls, command: str, verification: Verification, error: str) -> Complaint:
        """Return the complaint about work that did not pass its verification."""
        words = MEND.format(
            command=command, code=verification.exit_code, output=verification.output
        )
        return cls(ErrorKind.VERIFY_FAILED, error, words)


class Rounds:
    """The rounds of a task so far. `session_usage` is what its session has used before them.

    With `keeps_session` its CLI can go on with the session of an earlier round.

    Attributes:
        task: the task as it is run in the next round.
        session: the session of that round.
        session_usage: what the CLI has counted in its session so far.
        may_have_acted: whether any round may have changed something.
        verification: what `verify` said last.
        data: the answer as the schema has it, of the last round.
        changes: what the task changed in its worktree.
        is_final: whether the task is not tried again, whatever its error.
    """

    def __init__(
        self,
        task: PreparedTask,
        session: Session,
        session_usage: Usage | None,
        *,
        keeps_session: bool,
    ) -> None:
        spec = task.spec
        self.task, self.session, self.session_usage = task, session, session_usage
        self.may_have_acted = False
        self.verification: Verification | None = None
        self.data: Any = None
        self.changes: Changes | None = None
        self.is_final = False
        self._keeps_session = keeps_session
        self._spec = spec
        self._left = {
            ErrorKind.INVALID_ANSWER: spec.most_repairs,
            ErrorKind.VERIFY_FAILED: spec.most_verify_retries,
        }
        self._done: list[tuple[ProcessResult, ParsedOutput, CostSource | None]] = []

    @property
    def count(self) -> int:
        """How many have ended."""
        return len(self._done)

    @property
    def timeout_seconds(self) -> float | None:
        """How long the next one may take: what is left of the time of the task."""
        if self._spec.timeout_seconds is None:
            return None
        return max(self._spec.timeout_seconds - self._spent_seconds(), LEAST_SECONDS)

    @property
    def parsed(self) -> ParsedOutput:
        """What the CLI meant: in the last round, but for what all of them used and did."""
        outputs = [parsed for _, parsed, _ in self._done]
        last = outputs[-1]
        if len(outputs) == 1:
            return last
        usages = [each.usage for each in outputs if each.usage is not None]
        usage = usages[0] if usages else None
        for other in usages[1:]:
            usage = other if usage is None else usage.plus(other)
        acted = [each.acted for each in outputs]
        return replace(
            last,
            model=_latest(each.model for each in outputs),
            session_id=_latest(each.session_id for each in outputs),
            usage=usage,
            cost_usd=self._cost_usd(),
            acted=True if True in acted else None if None in acted else False,
            warnings=tuple(dict.fromkeys(text for each in outputs for text in each.warnings)),
        )

    @property
    def cost_source(self) -> CostSource | None:
        """Who says what all of them cost: the least certain of those who do."""
        sources = [source for _, _, source in self._done]
        order: tuple[CostSource, ...] = ("unknown", "estimated", "cli")
        return next((source for source in order if source in sources), None)

    @property
    def process(self) -> ProcessResult:
        """What the operating system said of the last one; the time is that of all."""
        return replaced(self._done[-1][0], duration_seconds=self._spent_seconds())

    def add(
        self,
        process: ProcessResult,
        parsed: ParsedOutput,
        cost_source: CostSource | None,
        session_usage: Usage | None,
        *,
        may_have_acted: bool,
    ) -> None:
        """Add the round that has just ended."""
        self._done.append((process, parsed, cost_source))
        self.data = self.verification = None
        self.session_usage = session_usage
        self.may_have_acted = self.may_have_acted or may_have_acted

    def fail(self, kind: ErrorKind, error: str) -> None:
        """Let the last one end with an error, though its CLI had none."""
        process, parsed, source = self._done[-1]
        self._done[-1] = (process, replace(parsed, error=error, error_kind=kind), source)

    def warn(self, *warnings: str) -> None:
        """Add warnings to the last one."""
        process, parsed, source = self._done[-1]
        parsed = replace(parsed, warnings=(*parsed.warnings, *warnings))
        self._done[-1] = (process, parsed, source)

    def ask_again(self, complaint: Complaint, *, is_contained: bool) -> bool:
        """Prepare another round for a complaint; False where there is none, and why as a warning.

        `is_contained`: the task could change nothing that a new start would not find as it was.
        """
        if self._left[complaint.kind] <= 0:
            return False
        limit = self._spec.timeout_seconds
        if limit is not None and self._spent_seconds() + LEAST_SECONDS > limit:
            self.warn("not asked again: its time is over")
            return False
        session_id = self.parsed.session_id or self.session.resume
        if self._keeps_session and session_id and SESSION_ID.fullmatch(session_id):
            self.session = Session(keep=True, resume=session_id)
            self.task = self.task.again(complaint.words, self.session)
        elif not self.may_have_acted or is_contained or self._spec.retry_after_changes:
            keep = self.session.keep
            self.session = Session(keep=True) if keep else NO_SESSION
            prompt = f"{self._spec.prompt}\n\n{complaint.words}"
            self.task = self.task.again(prompt, self.session)
        else:
            self.warn(NOT_STARTED_OVER)
            return False
        self._left[complaint.kind] -= 1
        return True

    def _spent_seconds(self) -> float:
        return sum(process.duration_seconds for process, _, _ in self._done)

    def _cost_usd(self) -> float | None:
        costs = [parsed.cost_usd for _, parsed, _ in self._done if parsed.cost_usd is not None]
        return round(sum(costs), 6) if costs and self.cost_source != "unknown" else None


NOT_STARTED_OVER = (
    "not asked again, because its CLI has no session to go on with, and it may have changed "
    "something; retry_after_changes: true lets it begin anew"
)


def _latest(values: Any) -> Any:
    return next((value for value in reversed([*values]) if value is not None), None)
