"""From a task's stored spec to a command that may be started here."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from clinvk.backends import BackendRegistry
from clinvk.backends.base import (
    NO_SESSION,
    Backend,
    Command,
    Confinement,
    Session,
    build_command,
)
from clinvk.core import placeholders
from clinvk.core.spec import ErrorKind, TaskResult, TaskSpec, TaskStatus, not_blank, queue_of
from clinvk.core.worker_config import WorkerConfig
from clinvk.git.runner import HasFileno, OverdueError, StoppedError, Until
from clinvk.store.types import Lease
from workers.execution import policy_file
from workers.execution.directory import Directory, OutsideError
from workers.execution.policy import Policy, PolicyError
from workers.execution.refusal import RefusedError
from workers.execution.sandbox.sandbox import Decision, Sandbox, Wrapped
from workers.execution.worktrees.worktree import Worktree
from workers.execution.worktrees.worktrees import (
    WorktreeError,
    Worktrees,
    is_brought,
    wants_worktree,
)

NO_LEASE = Lease("none", 0, 0)
"""Of a task that is only looked at."""

ReadResults = Callable[[Sequence[int]], Iterable[TaskResult | None]]
"""Reads the results of some tasks of the same run, in the order of their indexes."""

LONGEST_INPUTS = 1 << 26
"""Characters of other tasks' outputs that a prompt may take in: more than any CLI reads, and less
than what would cost other tasks their memory."""


@dataclass(frozen=True, slots=True)
class PreparedTask:
    """A task that is ready to run. `directory` is the one that it works in, open.

    That is its `workdir`, or the same in its `worktree`.
    """

    spec: TaskSpec
    backend: Backend
    command: Command
    workdir: str | None
    directory: Directory
    decision: Decision
    warnings: tuple[str, ...]
    confinement: Confinement
    worktree: Worktree | None = None

    def again(self, prompt: str, session: Session) -> PreparedTask:
        """Return it with another prompt, in a session that goes on or a new one."""
        spec = replace(self.spec, prompt=prompt, inputs={})
        command = build_command(self.backend, spec, self.confinement, session)
        return replace(self, spec=spec, command=command)

    def close(self) -> None:
        """Give up what it holds; to be called once the command has ended, or never started."""
        self.directory.close()


@dataclass(frozen=True, slots=True)
class AcceptedTask:
    """A task that may run here.

    `directory` is its `workdir`, open; None for one that names a repository instead.
    """

    spec: TaskSpec
    backend: Backend
    workdir: str | None
    directory: Directory | None
    decision: Decision
    warnings: Sequence[str]
    allows_project_settings: bool

    def close(self) -> None:
        """Give up its directory, where it is not made ready."""
        if self.directory is not None:
            self.directory.close()


class Preparation:
    """What this machine needs to prepare tasks: its backends and its policy.

    `queues` are those that it serves; None is all. `quiet` gives `Confinement.quiet` of a backend.

    Raises:
        ConfigError: the policy file cannot be used.
    """

    def __init__(
        self,
        config: WorkerConfig,
        worker: str,
        queues: Collection[str] | None = None,
        quiet: Callable[[Backend], tuple[str, ...] | None] = lambda _: None,
    ) -> None:
        self._worker = worker
        self._queues = queues
        self._quiet = quiet
        self._registry = BackendRegistry.from_config(config.backends)
        self._configured = frozenset(
            n for n, entry in config.backends.items() if "command" in entry
        )
        self._policy = policy_file.load(config.policy_file) if config.policy_file else Policy()
        self.sandbox = Sandbox(config)
        self.worktrees = Worktrees(config)

    def backends(self) -> list[Backend]:
        """Return the backends that this machine serves."""
        return [self._registry.get(name) for name in self._registry.names() if self._serves(name)]

    @property
    def allows_reuse(self) -> bool:
        """Whether the policy allows that results are taken from earlier runs, and kept for them."""
        return self._policy.reuse is not False

    def _serves(self, name: str) -> bool:
        return self._queues is None or queue_of(name) in self._queues

    def prepare(
        self,
        spec: TaskSpec,
        results: ReadResults,
        session: Session = NO_SESSION,
        lease: Lease = NO_LEASE,
        budget_usd: float | None = None,
    ) -> PreparedTask:
        """Do what `accept` and `ready` do.

        Raises:
            RefusedError: it cannot be run here.
        """
        return self.ready(self.accept(spec, results), session, lease, budget_usd)

    def accept(self, spec: TaskSpec, results: ReadResults) -> AcceptedTask:
        """Fill in earlier outputs, check the policy, open its directory.

        Raises:
            RefusedError: it cannot be run here.
        """
        spec, warnings = fill_inputs(spec, results)
        backend = self._backend(spec.backend)
        must_hold = self._policy.needs_sandbox
        can_enforce = must_hold and self.sandbox.mechanism.works
        spec = self._policy.completed(spec, can_enforce=can_enforce)
        decision = self.sandbox.decide(spec, backend, must_hold=must_hold)
        workdir = self._accepted_workdir(spec, backend, is_enforced=decision.is_enforced)
        if decision.problem:
            reason = f"refused by worker {self._worker}: {decision.problem}"
            raise RefusedError(ErrorKind.REFUSED, reason)
        if not wants_worktree(spec):
            self._refuse_without_worktree(spec)
        may_follow = self._policy.allows_project_settings(spec)
        directory = None if is_brought(spec) else self._open(workdir)
        return AcceptedTask(spec, backend, workdir, directory, decision, warnings, may_follow)

    def ready(
        self,
        task: AcceptedTask,
        session: Session,
        lease: Lease,
        budget_usd: float | None = None,
        stop: HasFileno | None = None,
    ) -> PreparedTask:
        """Make the worktree of a task that wants one, build the command; takes its directory over.

        `budget_usd` is what it may cost at most. What has to be fetched for it is given up when
        `stop` is readable, and after the task's own time.

        Raises:
            RefusedError: it cannot be run here.
        """
        spec, backend, decision = task.spec, task.backend, task.decision
        directory, worktree = self._entered(spec, task.directory, session, lease, stop)
        try:
            confinement = Confinement(
                sandboxed=decision.is_enforced,
                project_settings=task.allows_project_settings,
                directory=directory.real_path,
                quiet=self._quiet(backend),
                budget_usd=budget_usd,
            )
            command = build_command(backend, spec, confinement, session)
        except BaseException:
            directory.close()
            raise
        told = (*task.warnings, *decision.warnings, *command.warnings)
        return PreparedTask(
            spec, backend, command, task.workdir, directory, decision, told, confinement, worktree
        )

    def _entered(
        self,
        spec: TaskSpec,
        directory: Directory | None,
        session: Session,
        lease: Lease,
        stop: HasFileno | None,
    ) -> tuple[Directory, Worktree | None]:
        """Return the directory that a task works in, which is in its worktree if it has one.

        Raises:
            RefusedError: it cannot have the worktree that it asks for.
        """
        if not wants_worktree(spec):
            assert directory is not None, "only a worktree is of a repository that is named"
            return directory, None
        try:
            worktree = self.worktrees.enter(
                *(spec, directory, lease, self._policy.directory),
                resumes=session.resume is not None,
                accept_repository=self._policy.check_repository,
                until=Until(stop=stop).within(spec.timeout_seconds),
            )
            return worktree.open(), worktree
        except StoppedError as error:
            what = "canceled while its repository was fetched"
            raise RefusedError(ErrorKind.CANCELED, what) from error
        except OverdueError as error:
            what = "stopped while its repository was fetched: it took longer than the task may"
            raise RefusedError(ErrorKind.TIMEOUT, what) from error
        except PolicyError as error:
            raise self._refused(error) from error
        except OutsideError as error:
            what = f"workdir leads out of its worktree (worker {self._worker})"
            raise RefusedError(ErrorKind.INVALID, what) from error
        except (WorktreeError, OSError) as error:
            raise RefusedError(ErrorKind.INVALID, f"{error} (worker {self._worker})") from error
        finally:
            if directory is not None:
                directory.close()

    def _refuse_without_worktree(self, spec: TaskSpec) -> None:
        """Refuse what has no meaning in a directory that the task shares with others."""
        for name in ("repo", "shipped", "ref", "setup", "include_changes"):
            if getattr(spec, name) is not None:
                raise RefusedError(ErrorKind.INVALID, f"{name} needs workspace: worktree")

    def _backend(self, name: str) -> Backend:
        if name not in self._registry.names():
            known = ", ".join(sorted(self._registry.names()))
            raise RefusedError(
                ErrorKind.INVALID,
                f'worker {self._worker} has no backend "{name}" (it has {known})',
            )
        if not self._serves(name):  # a message in another backend's queue, which clinvk never puts
            reason = f'worker {self._worker} does not serve the queue of "{name}"'
            raise RefusedError(ErrorKind.REFUSED, reason)
        return self._registry.get(name)

    def _accepted_workdir(
        self, spec: TaskSpec, backend: Backend, *, is_enforced: bool
    ) -> str | None:
        """Check a task against the policy; returns the directory that it runs in."""
        try:
            is_configured = spec.backend in self._configured
            self._policy.check(spec, backend, is_configured=is_configured, is_enforced=is_enforced)
        except PolicyError as error:
            raise self._refused(error) from error
        return None if is_brought(spec) else self._found(spec)

    def _found(self, spec: TaskSpec) -> str | None:
        """Find the directory that a task asks for, which need not be there."""
        try:
            workdir = None if spec.workdir is None else str(Path(spec.workdir).expanduser())
            return self._policy.directory(workdir)
        except PolicyError as error:
            raise self._refused(error) from error
        except (OSError, RuntimeError, ValueError) as error:  # no such user, a loop of links, a NUL
            what = f"workdir {spec.workdir} cannot be found on worker {self._worker}: {error}"
            raise RefusedError(ErrorKind.INVALID, what) from error

    def _open(self, workdir: str | None) -> Directory:
        """Open the directory that a task runs in.

        Raises:
            RefusedError: it cannot be opened, or has been moved out of what the policy allows.
        """
        try:
            return self._policy.open(workdir)
        except PolicyError as error:
            raise self._refused(error) from error
        except FileNotFoundError:
            what = "does not exist"
        except NotADirectoryError:
            what = "is not a directory"
        except OSError as error:
            what = f"cannot be entered ({error.strerror})"
        except ValueError as error:
            what = f"is not a path ({error})"
        shown = os.curdir if workdir is None else workdir
        raise RefusedError(ErrorKind.INVALID, f"workdir {shown} {what} on worker {self._worker}")

    def _refused(self, error: PolicyError) -> RefusedError:
        reason = f"refused by the policy of worker {self._worker}: {error}"
        return RefusedError(ErrorKind.REFUSED, reason)

    def wrapped(
        self, task: PreparedTask, inherited: Mapping[bytes, bytes], kept: str | None = None
    ) -> AbstractContextManager[Wrapped]:
        """Give the command of a task as it is started, in its sandbox if there is one.

        `kept` is a directory in which the sessions of a sandboxed CLI outlive it.
        """
        readable = task.worktree.readable if task.worktree else ()
        return self.sandbox.wrap(
            task.decision,
            task.command,
            task.backend,
            task.directory,
            inherited,
            kept,
            readable,
        )

    def explain(self, task: PreparedTask, error: OSError | ValueError) -> RefusedError:
        """Say why the command of a task could not be started."""
        program = task.command.argv[0]
        if not isinstance(error, OSError):  # a NUL in an argument
            return RefusedError(ErrorKind.INVALID, f"cannot start {task.spec.backend}: {error}")
        search = task.command.env.get("PATH", os.environ.get("PATH", os.defpath))
        if shutil.which(program, path=search) is None:
            return RefusedError(
                ErrorKind.NOT_INSTALLED,
                f"{program} is not installed on worker {self._worker}: {task.backend.install_hint}",
            )
        kind = ErrorKind.TOO_LARGE if error.errno == errno.E2BIG else ErrorKind.FAILED
        return RefusedError(kind, f"cannot start {program} on {self._worker}: {error}")


def fill_inputs(spec: TaskSpec, results: ReadResults) -> tuple[TaskSpec, list[str]]:
    """Put the outputs of earlier tasks into the prompt.

    Returns the spec, and a warning for each output that is missing or not complete.

    Raises:
        RefusedError: the prompt would be too large, or blank, or a part of an answer is missing.
    """
    if not spec.inputs:
        return spec, []
    indexes = sorted(set(spec.inputs.values()))
    found = dict(zip(indexes, results(indexes), strict=True))
    outputs, warnings = {}, []
    for text, index in spec.inputs.items():
        result = found[index]
        path = next((each.path for each in placeholders.find(text)), None)
        outputs[text] = _output(result) if path is None else _data(text, path, index, result)
        if result is None or result.status is not TaskStatus.OK:
            ended = f"ended as {result.status}" if result else "has no result"
            what = "is not complete" if outputs[text] else "is empty"
            warnings.append(f"{text}: step {index + 1} {ended}, its output {what}")
    size = placeholders.filled_chars(spec.prompt, outputs)
    if size > LONGEST_INPUTS:
        raise RefusedError(
            ErrorKind.TOO_LARGE, f"the outputs of earlier steps are {size} characters in the prompt"
        )
    prompt = placeholders.fill(spec.prompt, outputs)
    if not not_blank(prompt):
        raise RefusedError(ErrorKind.INVALID, f"the prompt is blank without {', '.join(outputs)}")
    return replace(spec, prompt=prompt), warnings


def _output(result: TaskResult | None) -> str:
    return (result.output if result else None) or ""


def _data(text: str, path: Sequence[str | int], index: int, result: TaskResult | None) -> str:
    """Return the part of a step's answer that a placeholder stands for."""
    try:
        if result is None or result.data is None:
            ended = f"ended as {result.status}" if result else "has no result"
            raise LookupError(f"step {index + 1} {ended}, and has no data")
        return placeholders.value_at(result.data, path)
    except LookupError as error:
        raise RefusedError(ErrorKind.INVALID, f"{text}: {error.args[0]}") from error
