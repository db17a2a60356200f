"""One task from its stored spec to its result, as a list of named steps.

A failed prompt is a result, never an exception: every way to fail ends in a `TaskResult`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from clinvk.backends import BackendRegistry
from clinvk.backends.base import Backend, Command, ParsedOutput, ProcessResult
from clinvk.core import placeholders
from clinvk.core.errors import WireError
from clinvk.core.spec import ErrorKind, TaskResult, TaskSpec, TaskStatus, not_blank, queue_of
from clinvk.core.timestamps import rfc3339
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.store import Claim, Lease
from workers.execution import process_tree
from workers.execution.policy import Policy, PolicyError
from workers.execution.process import OutputLimits, StopSignal, run

Results = Callable[[Sequence[int]], Iterable[TaskResult | None]]
"""Reads the results of some tasks of the same run."""


LONGEST_INPUTS = 1 << 26
"""Characters of other tasks' outputs that a prompt may take in: more than any CLI reads, and less
than what would cost other tasks their memory."""


logger = logging.getLogger(__name__)


class RefusedError(Exception):
    """A task that cannot be started here; becomes its result."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class PreparedTask:
    """A task that is ready to run."""

    spec: TaskSpec
    backend: Backend
    command: Command
    workdir: str | None
    warnings: tuple[str, ...]


class Executor:
    """Runs tasks on this machine. `owner` is this process, see `Store.claim`."""

    def __init__(self, config: WorkerConfig, worker: str, owner: str) -> None:
        self.worker = worker
        self.owner = owner
        self._registry = BackendRegistry.from_config(config.backends)
        self._configured = frozenset(config.backends)
        self._policy = Policy.load(config.policy_file) if config.policy_file else Policy()
        self._limits = OutputLimits(
            output_bytes=config.output_bytes,
            spill_bytes=config.spill_bytes,
            spill_dir=Path(config.spill_dir).expanduser(),
        )
        with contextlib.suppress(OSError):  # what commands write goes elsewhere, then
            self._limits.spill_dir.mkdir(parents=True, exist_ok=True, mode=0o700)

    def backends(self, queues: Sequence[str]) -> list[Backend]:
        """Return the backends that these queues are for."""
        served = [name for name in self._registry.names() if queue_of(name) in queues]
        return [self._registry.get(name) for name in served]

    def execute(
        self, lease: Lease, claim: Claim, stop: StopSignal, results: Results
    ) -> TaskResult | None:
        """Run one attempt to its end; `results` has what earlier tasks of its run have said.

        Returns None where the worker lost touch or is shutting down, and stopped the command:
        the task goes to somebody else.
        """
        started = datetime.now(UTC)
        warnings: tuple[str, ...] = ()
        finished: ProcessResult | None = None
        try:
            prepared = self._prepare(claim.spec, results)
            warnings = prepared.warnings
            finished = self._run(prepared, lease, stop)
            answer = self._understand(prepared, finished)
        except RefusedError as refusal:
            answer = ParsedOutput(error=str(refusal), error_kind=refusal.kind)
        except Exception as error:  # a bug of ours must not cost the run, nor be tried again
            logger.exception("task %s", lease)
            reason = f"clinvk failed on worker {self.worker}: {type(error).__name__}: {error}"
            answer = ParsedOutput(error=reason, error_kind=ErrorKind.FAILED)
        if stop.reason in {"disconnected", "requeued"}:
            return None
        return TaskResult(
            index=lease.index,
            status=_outcome(answer),
            exit_code=_exit_code(finished, answer),
            duration_seconds=round(finished.duration_seconds, 3) if finished else 0.0,
            output=answer.output if answer.error_kind is None else None,
            output_file=str(finished.stdout.path) if finished and finished.stdout.path else None,
            error=answer.error,
            error_kind=answer.error_kind,
            attempts=claim.attempts,
            worker=self.worker,
            model=answer.model,
            session_id=answer.session_id,
            usage=answer.usage,
            cost_usd=answer.cost_usd,
            warnings=[*warnings, *answer.warnings],
            start_time=rfc3339(started),
            end_time=rfc3339(datetime.now(UTC)),
        )

    def _prepare(self, wire: bytes, results: Results) -> PreparedTask:
        """Decode the spec, find its backend, build the command, check what it needs."""
        try:
            spec, warnings = _filled(TaskSpec.from_wire(wire), results)
        except WireError as error:
            raise RefusedError(ErrorKind.INVALID, str(error)) from error
        if spec.backend not in self._registry.names():
            known = ", ".join(sorted(self._registry.names()))
            raise RefusedError(
                ErrorKind.INVALID,
                f'worker {self.worker} has no backend "{spec.backend}" (it has {known})',
            )
        backend = self._registry.get(spec.backend)
        try:
            self._policy.check(spec, is_configured=spec.backend in self._configured)
            workdir = self._policy.directory(_expanded(spec.workdir))
        except PolicyError as error:
            reason = f"refused by the policy of worker {self.worker}: {error}"
            raise RefusedError(ErrorKind.REFUSED, reason) from error
        command = backend.command(spec)
        return PreparedTask(spec, backend, command, workdir, (*warnings, *command.warnings))

    def _run(self, prepared: PreparedTask, lease: Lease, stop: StopSignal) -> ProcessResult:
        if stop.reason is not None:
            raise RefusedError(ErrorKind.CANCELED, "canceled before it started")
        try:
            return run(
                prepared.command,
                tags={process_tree.MARKER: str(lease), process_tree.OWNER: self.owner},
                stop=stop,
                limits=self._limits,
                cwd=prepared.workdir,
                timeout_seconds=prepared.spec.timeout_seconds,
            )
        except OSError as error:
            raise self._explained(prepared, error) from error
        except ValueError as error:  # a NUL in an argument
            raise RefusedError(
                ErrorKind.INVALID, f"cannot start {prepared.spec.backend}: {error}"
            ) from error

    def _explained(self, prepared: PreparedTask, error: OSError) -> RefusedError:
        """Say why a command could not be started."""
        program, workdir = prepared.command.argv[0], prepared.workdir
        if workdir is not None and not Path(workdir).is_dir():
            what = "is not a directory" if Path(workdir).exists() else "does not exist"
            return RefusedError(
                ErrorKind.INVALID, f"workdir {workdir} {what} on worker {self.worker}"
            )
        search = prepared.command.env.get("PATH", os.environ.get("PATH", os.defpath))
        if shutil.which(program, path=search) is None:
            return RefusedError(
                ErrorKind.NOT_INSTALLED,
                f"{program} is not installed on worker {self.worker}: "
                f"{prepared.backend.install_hint}",
            )
        kind = ErrorKind.TOO_LARGE if error.errno == errno.E2BIG else ErrorKind.FAILED
        return RefusedError(kind, f"cannot start {program} on {self.worker}: {error}")

    def _understand(self, prepared: PreparedTask, finished: ProcessResult) -> ParsedOutput:
        """Read the answer; that we stopped the command counts more than what it said."""
        answer = prepared.backend.parse(finished)
        if finished.stopped_by == "timeout":
            limit = f"{prepared.spec.timeout_seconds:g}"
            answer = replace(answer, error=f"stopped after {limit} s", error_kind=ErrorKind.TIMEOUT)
        elif finished.stopped_by == "canceled":
            answer = replace(answer, error="canceled", error_kind=ErrorKind.CANCELED)
        if finished.orphans:
            warning = f"{prepared.spec.backend} left processes running; they were stopped"
            answer = replace(answer, warnings=(*answer.warnings, warning))
        return self._within_limits(answer, finished)

    def _within_limits(self, answer: ParsedOutput, finished: ProcessResult) -> ParsedOutput:
        limit = self._limits.output_bytes
        if finished.stdout.size > limit:
            kept = finished.stdout.path
            where = f"all of it is in {kept} on {self.worker}" if kept else "the rest is lost"
            warning = (
                f"the output of {finished.stdout.size} bytes is over the limit of {limit}: {where}"
            )
            answer = replace(answer, warnings=(*answer.warnings, warning))
        if answer.output is not None and len(answer.output) > limit // 4:  # may be over, in UTF-8
            kept_bytes = answer.output.encode("utf-8", "replace")[:limit]
            answer = replace(answer, output=kept_bytes.decode("utf-8", "ignore"))
        return answer


def _filled(spec: TaskSpec, results: Results) -> tuple[TaskSpec, list[str]]:
    """Put the outputs of earlier tasks into the prompt; says where there is none."""
    if not spec.inputs:
        return spec, []
    indexes = sorted(set(spec.inputs.values()))
    found = dict(zip(indexes, results(indexes), strict=True))
    outputs, warnings = {}, []
    for text, index in spec.inputs.items():
        result = found[index]
        outputs[text] = (result.output if result else None) or ""
        if result is None or result.status is not TaskStatus.OK:
            ended = f"ended as {result.status}" if result else "has no result"
            what = "is not complete" if outputs[text] else "is empty"
            warnings.append(f"{text}: step {index + 1} {ended}, its output {what}")
    size = sum(spec.prompt.count(text) * len(output) for text, output in outputs.items())
    if size > LONGEST_INPUTS:
        raise RefusedError(
            ErrorKind.TOO_LARGE, f"the outputs of earlier steps are {size} characters in the prompt"
        )
    prompt = placeholders.fill(spec.prompt, outputs)
    if not not_blank(prompt):
        raise RefusedError(ErrorKind.INVALID, f"the prompt is blank without {', '.join(outputs)}")
    return replace(spec, prompt=prompt), warnings


def _expanded(workdir: str | None) -> str | None:
    return None if workdir is None else str(Path(workdir).expanduser())


def _outcome(answer: ParsedOutput) -> TaskStatus:
    match answer.error_kind:
        case None:
            return TaskStatus.OK
        case ErrorKind.TIMEOUT:
            return TaskStatus.TIMEOUT
        case ErrorKind.CANCELED:
            return TaskStatus.CANCELED
        case _:
            return TaskStatus.FAILED


def _exit_code(finished: ProcessResult | None, answer: ParsedOutput) -> int:
    """Return the CLI's own code; -1 when we stopped it or never started it.

    A CLI that exits 0 without an answer has failed, with 1, so that scripts which look at the
    exit code alone see it.
    """
    if finished is None or finished.stopped_by is not None:
        return -1
    if finished.returncode == 0 and answer.error_kind is not None:
        return 1
    return finished.returncode
