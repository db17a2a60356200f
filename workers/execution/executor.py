"""One task from its stored spec to its result: prepare, run, parse.

A failed prompt is a result, never an exception: every way to fail ends in a `TaskResult`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from clinvk.backends.base import NO_SESSION, Backend, ParsedOutput, ProcessResult, Session
from clinvk.core.changes import Changes
from clinvk.core.prices import MICROS
from clinvk.core.spec import (
    CostSource,
    Enforcement,
    ErrorKind,
    TaskResult,
    Usage,
    Verification,
)
from clinvk.core.timestamps import rfc3339
from clinvk.core.user_paths import expanded_default
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.decoding import earlier
from clinvk.store.types import Claim, Lease
from workers.execution import answer_check, masking, process_tree
from workers.execution.assignment import Assignment, assigned
from workers.execution.environment import Environments
from workers.execution.live_reader import LiveReader
from workers.execution.masking import NOTHING, Masker
from workers.execution.next_step import Ended
from workers.execution.outcome import cut, exit_code, judged, own_usage, status_of
from workers.execution.preparation import AcceptedTask, Preparation, PreparedTask, ReadResults
from workers.execution.pricing import Pricing
from workers.execution.process import OutputLimits, run
from workers.execution.refusal import RefusedError
from workers.execution.retry_watch import RetryWatch
from workers.execution.rounds import Complaint, Rounds
from workers.execution.sandbox.confined import SandboxFailedError
from workers.execution.sandbox.git_directory import WorkdirError
from workers.execution.sandbox.sandbox import Sandbox
from workers.execution.sessions import NOTHING_KEPT, Kept, SessionStore
from workers.execution.set_up import set_up
from workers.execution.shared_schemas import SharedSchemas
from workers.execution.spill import Spill
from workers.execution.step_feed import StepFeed
from workers.execution.stop_signal import StopSignal
from workers.execution.task_limits import TaskLimits
from workers.execution.verify import verify
from workers.execution.worktrees.repositories import ReadShipments
from workers.execution.worktrees.worktrees import WorktreeError, Worktrees
from workers.observers import Observers, TaskStarted
from workers.server_clock import ServerClock

if TYPE_CHECKING:
    from workers.execution.reuse.reuse import Look, Reuse

ReuseOf = Callable[[Environments], "Reuse"]
"""Makes what finds and keeps results that are taken again."""

logger = logging.getLogger(__name__)

NOTHING_PARSED = ParsedOutput()
KEPT = frozenset({None, ErrorKind.INVALID_ANSWER, ErrorKind.VERIFY_FAILED})
"""With which kinds of errors, or none, a result has the answer: it has been paid for."""


@dataclass(slots=True, kw_only=True)
class Execution:
    """What came of one execution so far; `process` is None where no command was started.

    `session_usage` is what the CLI has counted in its session. `is_final`: it is not tried again.
    `reused` is the result of an earlier run that is taken instead.
    """

    parsed: ParsedOutput = NOTHING_PARSED
    process: ProcessResult | None = None
    assignment: Assignment | None = None
    backend: Backend | None = None
    session: Session = NO_SESSION
    warnings: tuple[str, ...] = ()
    sandbox: Enforcement | None = None
    may_have_acted: bool = False
    session_usage: Usage | None = None
    cost_source: CostSource | None = None
    changes: Changes | None = None
    is_final: bool = False
    data: Any = None
    verification: Verification | None = None
    repairs: int = 0
    reused: TaskResult | None = None

    def note(self, rounds: Rounds) -> None:
        """Take note of what came of its rounds, of which there was one at least."""
        self.parsed, self.process = rounds.parsed, rounds.process
        self.session_usage, self.may_have_acted = rounds.session_usage, rounds.may_have_acted
        self.is_final = rounds.is_final
        self.cost_source, self.changes = rounds.cost_source, rounds.changes
        self.data, self.verification = rounds.data, rounds.verification
        self.repairs = rounds.count - 1


class Executor:
    """Runs tasks on this machine. `owner` is this process, see `Store.claim`.

    `queues` are those that it serves; None is all. `clock` is the server's. Without `sessions`, no
    CLI's session is kept, and without `reuse` no result is taken from an earlier run.

    Attributes:
        name: the worker, as the store knows it.

    Raises:
        ConfigError: the policy file cannot be used.
    """

    def __init__(
        self,
        config: WorkerConfig,
        worker: str,
        owner: str,
        observers: Observers | None = None,
        queues: Collection[str] | None = None,
        clock: ServerClock | None = None,
        sessions: SessionStore | None = None,
        reuse: ReuseOf | None = None,
    ) -> None:
        self.worker = worker
        self.owner = owner
        self.name = owner.partition("/")[0]
        self.clock = clock or ServerClock()
        self._resume_prompt = config.resume_prompt
        self._observers = observers or Observers()
        self._environments = Environments(config)
        self._cli_retries = config.cli_retries
        quiet = self._environments.quiet_arguments
        self._preparation = Preparation(config, worker, queues, quiet)
        self._sessions = sessions
        self._schemas = SharedSchemas()
        self._reuse_of = reuse
        self._reuse_made: Reuse | None = None
        self._making_reuse = threading.Lock()
        self._task_limits = TaskLimits(config)
        self._pricing = Pricing(config.prices)
        self._limits = OutputLimits(
            output_bytes=config.output_bytes,
            spill_bytes=config.spill_bytes,
            spill=Spill(
                directory=expanded_default(config.spill_dir),
                quota_bytes=config.spill_quota_bytes,
                keep_days=config.spill_keep_days,
                reserve_bytes=config.spill_reserve_bytes,
            ),
        )
        self._limits.spill.prepare()

    def backends(self) -> list[Backend]:
        """Return the backends that this machine serves."""
        return self._preparation.backends()

    def environment(self, backend: Backend) -> Mapping[bytes, bytes]:
        """Return what the commands of a backend get of this worker's environment."""
        return self._environments.of(backend)

    def unenforced_limits(self) -> list[str]:
        """Return a line for each configured limit of tasks that cannot be enforced here."""
        return self._task_limits.missing()

    @property
    def sandbox(self) -> Sandbox:
        """What enforces sandbox modes here."""
        return self._preparation.sandbox

    def shipped_by(self, store: ReadShipments) -> None:
        """Read there what clients ship: checkouts, and schemas."""
        self.worktrees.shipped_by(store)
        self._schemas.store = store

    @property
    def worktrees(self) -> Worktrees:
        """The worktrees of the tasks that run here."""
        return self._preparation.worktrees

    def execute(
        self, lease: Lease, claim: Claim, stop: StopSignal, results: ReadResults
    ) -> Ended | None:
        """Run one dispatch of a task to its end; `results` reads those of earlier tasks.

        Returns None where the command was stopped because the worker is disconnected or shuts
        down: another worker runs the task again.
        """
        started = datetime.now(UTC)
        execution = self._execute(lease, claim, stop, results)
        if stop.reason in {"disconnected", "requeued"}:
            return None
        if execution.reused is not None:
            return self._ended(execution, self._reused(execution.reused, claim, started))
        parsed, process = execution.parsed, execution.process
        result = TaskResult(
            index=lease.index,
            status=status_of(parsed.error_kind),
            exit_code=exit_code(process, parsed),
            duration_seconds=round(process.duration_seconds, 3) if process else 0.0,
            output=parsed.output if parsed.error_kind in KEPT else None,
            data=execution.data,
            verify=execution.verification,
            repairs=execution.repairs,
            output_file=str(process.stdout.path) if process and process.stdout.path else None,
            sandbox=execution.sandbox,
            error=parsed.error,
            error_kind=parsed.error_kind,
            retry_at=rfc3339(parsed.retry_at) if parsed.retry_at else None,
            acted=parsed.acted,
            attempts=claim.attempts,
            worker=self.worker,
            model=parsed.model,
            session_id=parsed.session_id,
            usage=parsed.usage,
            cost_usd=parsed.cost_usd,
            cost_source=execution.cost_source,
            changes=execution.changes,
            warnings=[*execution.warnings, *parsed.warnings],
            start_time=rfc3339(started),
            end_time=rfc3339(datetime.now(UTC)),
        )
        return self._ended(execution, result)

    def _reused(self, found: TaskResult, claim: Claim, started: datetime) -> TaskResult:
        """Return the result of an earlier run as this task's."""
        ended = datetime.now(UTC)
        return replace(
            found,
            duration_seconds=round((ended - started).total_seconds(), 3),
            attempts=claim.attempts,
            worker=self.worker,
            start_time=rfc3339(started),
            end_time=rfc3339(ended),
        )

    def _ended(self, execution: Execution, result: TaskResult) -> Ended:
        """Add what decides how a task goes on."""
        parsed, session, backend = execution.parsed, execution.session, execution.backend
        return Ended(
            result=result,
            worker=self.name,
            assignment=execution.assignment,
            may_have_acted=execution.may_have_acted or session.resume is not None,
            is_contained=_is_contained(execution),
            can_resume=backend is not None and backend.can_resume,
            limited_model=parsed.limited_model,
            at_capacity=parsed.at_capacity,
            session=parsed.session_id or session.resume,
            session_usage=execution.session_usage,
            is_final=execution.is_final,
        )

    def _execute(
        self, lease: Lease, claim: Claim, stop: StopSignal, results: ReadResults
    ) -> Execution:
        execution, masker = Execution(), NOTHING
        try:
            assignment = assigned(claim, partial(self._schemas.complete, run=lease.run))
            execution.assignment = assignment
            spec, session = assignment.begin(
                self.name, self._resume_prompt, has_session=self._has_session(lease, assignment)
            )
            left = claim.left_micro_usd
            budget_usd = None if left is None else left / MICROS
            accepted = self._preparation.accept(spec, results)
            look = self._look(accepted, lease, claim, session) if spec.reuse else None
            if look is not None and look.found is not None:
                accepted.close()
                execution.reused = look.found
                return execution
            task = self._preparation.ready(accepted, session, lease, budget_usd, stop)
            look = self._as_seen(look, task)
            unlimited = self._task_limits.warnings(task.spec.backend)
            execution.session, execution.backend = session, task.backend
            execution.warnings = (*task.warnings, *unlimited, *_told(look))
            execution.sandbox = task.decision.enforcement
            masker = masking.masker(self._environments.secrets(task.backend, task.command))
            watch = None if self._cli_retries else RetryWatch(stop)
            feed = StepFeed(lease, claim.attempts, task.spec.steps, masker, self._observers, watch)
            with closing(task), self._kept(lease, task, session) as kept:
                set_up(task, partial(self._run_shell, lease, stop))
                rounds = Rounds(
                    task,
                    session,
                    assignment.history.session_usage,
                    keeps_session=task.backend.can_resume and kept is not NOTHING_KEPT,
                )
                try:
                    self._run_rounds(rounds, execution, lease, stop, feed, kept, masker)
                except RefusedError as refusal:
                    if not rounds.count:
                        raise
                    rounds.fail(refusal.kind, str(refusal))
                    rounds.is_final = refusal.is_final
                    self._record_changes(rounds)
            execution.note(rounds)
            self._offer(lease, look, execution, execution.parsed)
        except RefusedError as refusal:
            execution.parsed = ParsedOutput(error=str(refusal), error_kind=refusal.kind)
            execution.is_final = refusal.is_final
        except Exception as error:  # a bug of ours must not cost the run, nor be tried again
            logger.exception("task %s", lease)
            reason = f"clinvk failed on worker {self.worker}: {type(error).__name__}: {error}"
            execution.parsed = ParsedOutput(error=reason, error_kind=ErrorKind.FAILED)
            execution.is_final, execution.cost_source = True, "unknown"
        self._make_presentable(execution, masker)
        return execution

    def _run_rounds(
        self,
        rounds: Rounds,
        execution: Execution,
        lease: Lease,
        stop: StopSignal,
        feed: StepFeed,
        kept: Kept,
        masker: Masker,
    ) -> None:
        """Run the CLI, and again while there is something to complain of that it may mend.

        Raises:
            RefusedError: it cannot be started, or the task was canceled.
        """

        def again(complaint: Complaint) -> bool:
            is_asked = rounds.ask_again(complaint, is_contained=_is_contained(execution))
            if is_asked:
                feed.tell(complaint.error)
            return is_asked

        while True:
            self._run_round(rounds, lease, stop, feed, kept)
            complaint = self._invalid(rounds, masker)
            if complaint is not None and again(complaint):
                continue
            self._record_changes(rounds)
            if complaint is None:
                complaint = self._unverified(rounds, lease, stop, masker)
                if complaint is not None and again(complaint):
                    if rounds.task.worktree is not None:
                        rounds.task.worktree.verified()
                    continue
            if complaint is not None:
                rounds.fail(complaint.kind, complaint.error)
            return

    def _run_round(
        self, rounds: Rounds, lease: Lease, stop: StopSignal, feed: StepFeed, kept: Kept
    ) -> None:
        task = rounds.task
        reader = LiveReader(
            task.spec.backend,
            task.backend.reader(),
            feed.saw,
            self._environments.time_zone(task.backend),
            self.clock.seconds,
            on_session=kept.named,
        )
        process = self._run(rounds, lease, stop, reader, feed, kept.directory)
        parsed = judged(reader.finish(process), process, task.spec, feed.last_before_stall)
        parsed = self._explain_missing(task, parsed, process)
        may_have_acted = reader.wants_output if parsed.acted is None else parsed.acted
        parsed, session_usage = own_usage(
            parsed, task.backend, rounds.session, rounds.session_usage
        )
        parsed, cost_source = self._pricing.priced(parsed, task.backend, task.spec)
        rounds.add(process, parsed, cost_source, session_usage, may_have_acted=may_have_acted)

    def _invalid(self, rounds: Rounds, masker: Masker) -> Complaint | None:
        """Read the answer by the task's schema; returns the complaint if it is not valid."""
        schema, parsed = rounds.task.spec.schema, rounds.parsed
        if schema is None or parsed.error_kind is not None:
            return None
        said = masker.parsed(parsed)  # what the result will have has to be valid
        text = (said.output or "") if said.structured is None else said.structured
        if len(text) > self._limits.output_bytes:
            problems = [f"is {len(text)} characters, over the limit of {self._limits.output_bytes}"]
        else:
            rounds.data, problems = answer_check.check(text, schema)
        return Complaint.about_answer(problems) if problems else None

    def _unverified(
        self, rounds: Rounds, lease: Lease, stop: StopSignal, masker: Masker
    ) -> Complaint | None:
        """Run the task's `verify`; returns the complaint if it failed."""
        if rounds.task.spec.verify is None or rounds.parsed.error_kind is not None:
            return None
        shell = partial(self._run_shell, lease, stop)
        rounds.verification, complaint = verify(rounds.task, shell, masker.text)
        return complaint

    def _record_changes(self, rounds: Rounds) -> None:
        """Take what the task changed in its worktree, if it has one."""
        worktree, worker = rounds.task.worktree, self.worker
        if worktree is None:
            return
        try:
            rounds.changes = self.worktrees.changes(worktree)
        except WorktreeError as error:
            what = f"{error} on worker {worker}"
            if rounds.parsed.error_kind is not None:
                rounds.warn(what)
                return
            rounds.fail(ErrorKind.TOO_LARGE if error.is_too_large else ErrorKind.FAILED, what)
            rounds.is_final = True
            return
        rounds.warn(*worktree.warnings)
        if rounds.changes.kept:
            rounds.warn(f"its worktree is kept in {rounds.changes.kept} on worker {worker}")

    def _reuse(self) -> Reuse | None:
        """Return what finds and keeps results of earlier runs; made for the first that asks."""
        if self._reuse_of is None or not self._preparation.allows_reuse:
            return None
        with self._making_reuse:
            if self._reuse_made is None:
                self._reuse_made = self._reuse_of(self._environments)
                self._observers.add(self._reuse_made)
            return self._reuse_made

    def _look(
        self, task: AcceptedTask, lease: Lease, claim: Claim, session: Session
    ) -> Look | None:
        """Look for the result of an earlier run; not for a task that is to be run again."""
        reuse = self._reuse()
        if reuse is None or session.resume is not None:
            return None
        try:
            look = reuse.look(task, lease)
        except Exception:  # a bug of ours must not cost the task
            logger.exception("task %s: looking for an earlier result", lease)
            return None
        before = earlier(lease.index, claim.earlier)
        was_begun = before is not None and before.attempts > 0
        return replace(look, found=None) if was_begun else look

    def _as_seen(self, look: Look | None, task: PreparedTask) -> Look | None:
        """Return a look, unless what the task begins with is something else by now."""
        if look is None or self._reuse_made is None or self._reuse_made.is_as_seen(look, task):
            return look
        return replace(look, fingerprint=None)

    def _offer(
        self, lease: Lease, look: Look | None, execution: Execution, parsed: ParsedOutput
    ) -> None:
        """Let later runs have what came of a task, where they can have all of it."""
        if look is None or look.fingerprint is None or self._reuse_made is None:
            return
        process, changes = execution.process, execution.changes
        is_whole = process is not None and process.stdout.path is None
        has_changes = changes is not None and changes.kept is None
        if parsed.error_kind is None and is_whole and (has_changes or not execution.may_have_acted):
            self._reuse_made.keep_when_recorded(lease, look.fingerprint)

    def _has_session(self, lease: Lease, assignment: Assignment) -> bool:
        """Whether a session that the task would go on with is here; looks only if it has one."""
        if assignment.history.session is None:
            return False
        return self._sessions is None or self._sessions.is_kept(lease)

    def _make_presentable(self, execution: Execution, masker: Masker) -> None:
        """Mask what comes of an execution, and then cut it to the limits of output."""
        process = execution.process
        is_cut = process is not None and process.stdout.size > self._limits.output_bytes
        parsed = masker.parsed(execution.parsed, is_cut=is_cut)
        if process is not None:
            parsed = cut(parsed, process.stdout, self._limits.output_bytes, self.worker)
        execution.parsed = parsed
        execution.warnings = tuple(map(masker.line, execution.warnings))

    def _kept(
        self, lease: Lease, task: PreparedTask, session: Session
    ) -> AbstractContextManager[Kept]:
        """Keep the session of a task's CLI, if that is asked."""
        if self._sessions is None or not (session.keep and task.backend.can_resume):
            return nullcontext(NOTHING_KEPT)
        environment = {**self._environments.decoded(task.backend), **task.command.env}
        return self._sessions.execution(
            lease,
            task.backend,
            session,
            environment,
            is_sandboxed=task.decision.is_enforced,
        )

    def _run(
        self,
        rounds: Rounds,
        lease: Lease,
        stop: StopSignal,
        reader: LiveReader,
        feed: StepFeed,
        kept: str | None,
    ) -> ProcessResult:
        if stop.reason is not None:
            when = "before it was asked again" if rounds.count else "before it started"
            raise RefusedError(ErrorKind.CANCELED, f"canceled {when}")
        if not rounds.count:
            self._observers.notify(TaskStarted(lease, rounds.task.spec))
        return self._start(
            rounds.task,
            lease,
            stop,
            kept,
            timeout_seconds=rounds.timeout_seconds,
            stall_seconds=rounds.task.spec.stall_timeout_seconds,
            on_stall=feed.stalled,
            on_output=reader.take if reader.wants_output else None,
        )

    def _run_shell(
        self, lease: Lease, stop: StopSignal, task: PreparedTask, timeout_seconds: float
    ) -> ProcessResult:
        """Run a command that is no CLI's, as the task's own is run."""
        if stop.reason is not None:
            raise RefusedError(ErrorKind.CANCELED, "canceled before it started")
        return self._start(task, lease, stop, timeout_seconds=timeout_seconds)

    def _start(
        self,
        task: PreparedTask,
        lease: Lease,
        stop: StopSignal,
        kept: str | None = None,
        **how: Any,
    ) -> ProcessResult:
        """Run a task's command to its end; `how` goes on to `process.run`."""
        inherited = self._environments.of(task.backend)
        try:
            with (
                self._preparation.wrapped(task, inherited, kept) as wrapped,
                self._task_limits.limited(task.spec.backend, wrapped.command, inherited) as limited,
            ):
                process = run(
                    limited.command,
                    inherited=inherited,
                    tags={process_tree.TASK_TAG: str(lease), process_tree.OWNER_TAG: self.owner},
                    stop=stop,
                    limits=self._limits,
                    cwd=wrapped.cwd,
                    confined=wrapped.confined,
                    **how,
                )
                return wrapped.finished(limited.finished(process))
        except SandboxFailedError as error:
            raise RefusedError(ErrorKind.FAILED, f"{error} (worker {self.worker})") from error
        except WorkdirError as error:
            raise RefusedError(ErrorKind.INVALID, f"{error} (worker {self.worker})") from error
        except (OSError, ValueError) as error:
            raise self._preparation.explain(task, error) from error

    def _explain_missing(
        self, task: PreparedTask, parsed: ParsedOutput, process: ProcessResult
    ) -> ParsedOutput:
        """Warn where a CLI that failed names a variable that is set here, but not passed to it."""
        if parsed.error_kind is None or process.stopped_by is not None:
            return parsed
        said = f"{parsed.error} {process.stderr.text()}"
        if (name := self._environments.withheld(task.backend, said)) is None:
            return parsed
        warning = (
            f"{name} is set on worker {self.worker} but not passed to {task.spec.backend}: "
            f"if it needs the variable, name it in backends.{task.spec.backend}.pass_env there"
        )
        return replace(parsed, warnings=(*parsed.warnings, warning))


def _told(look: Look | None) -> tuple[str, ...]:
    return () if look is None or look.warning is None else (look.warning,)


def _is_contained(execution: Execution) -> bool:
    """Whether a task could change nothing that a new start would not find as it was."""
    sandbox, assignment = execution.sandbox, execution.assignment
    is_read_only = sandbox is not None and sandbox.mode == "read-only" and sandbox.by != "none"
    has_own_tree = assignment is not None and assignment.variant.workspace == "worktree"
    return is_read_only or has_own_tree
