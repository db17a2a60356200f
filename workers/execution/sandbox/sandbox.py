"""The sandbox of a worker's tasks: what is enforced for a task, and a command line that does it."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from clinvk.backends.base import Backend, Command, ProcessResult
from clinvk.core.network import Network
from clinvk.core.spec import Enforcement, TaskSpec
from clinvk.core.worker_config import WorkerConfig
from workers.execution.directory import Directory
from workers.execution.sandbox import detection, programs
from workers.execution.sandbox.command_line import command_line, confined_by
from workers.execution.sandbox.confined import Namespace, Restricted, SandboxFailedError
from workers.execution.sandbox.git_directory import Checkout, WorkdirError, opened_path
from workers.execution.sandbox.mechanism import Mechanism
from workers.execution.sandbox.plan import CliFiles, Mode, Plan, PrivateDirectory, workdir_problem
from workers.execution.sandbox.private import PrivateDirectories
from workers.execution.sandbox.system_files import system_files

logger = logging.getLogger(__name__)

NOWHERE = "/nonexistent"
"""The home of a worker whose environment names none."""
USER_SETTINGS = (
    "~/.gitconfig",
    "~/.config/git/config",
    "~/.config/git/attributes",
    "~/.config/git/ignore",
)
"""What every CLI may read of its user's, so that its commits have an author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is done about a task's sandbox mode.

    `enforcement` goes into the result, None where no mode restricts the task. `network` is set
    where the operating system enforces the mode. `problem` says why the task must not start.
    """

    enforcement: Enforcement | None = None
    network: Network | None = None
    problem: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_enforced(self) -> bool:
        """Whether the operating system enforces the mode."""
        return self.network is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """A command that is ready to start; `cwd` is where, None for the worker's own directory."""

    command: Command
    confined: Restricted | None
    cwd: str | None
    checkout: Checkout | None = None

    def finished(self, process: ProcessResult) -> ProcessResult:
        """Return what the operating system says of the command itself, now that it has ended.

        Raises:
            SandboxFailedError: it was never started.
        """
        if self.confined is None or process.stopped_by is not None:
            return process
        try:
            return replace(process, returncode=self.confined.returncode(process.returncode))
        except SandboxFailedError as error:
            said = process.stderr.text().strip().splitlines()
            raise SandboxFailedError(f"{error}: {said[-1]}" if said else str(error)) from error


class Sandbox:
    """Sandboxes of one worker."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._network = Network.of(config.network)
        self._private = PrivateDirectories()
        self._detecting = threading.Lock()
        self._mechanism: Mechanism | None = None

    @property
    def mechanism(self) -> Mechanism:
        """What enforces sandboxes here; found out at the first look, which takes a moment."""
        with self._detecting:
            if self._mechanism is None:
                self._mechanism = detection.detect(self._config.sandbox)
            return self._mechanism

    def use(self, mechanism: Mechanism) -> None:
        """Use this mechanism, whatever works here: for measurements."""
        self._mechanism = mechanism

    def description(self) -> dict[str, object]:
        """Return what a worker announces of it."""
        mechanism = self.mechanism
        if not mechanism.works:
            logger.warning("sandbox modes are not enforced here: %s", mechanism.reason)
        gaps = mechanism.gaps("workspace", self._network)
        return {
            "by": mechanism.by(self._network),
            **({"gaps": list(gaps)} if mechanism.works else {"reason": mechanism.reason}),
            **({"require": True} if self._config.sandbox_require else {}),
        }

    def decide(self, spec: TaskSpec, backend: Backend, *, must_hold: bool) -> Decision:
        """Decide what is done about a task's mode; `must_hold`: it is this machine's maximum."""
        mode = restricted_mode(spec)
        if mode is None:
            needs_mode = "network: off needs sandbox_mode read-only or workspace"
            return Decision(problem=needs_mode if spec.network == "off" else None)
        network, mechanism = self._network.narrowed(spec.network), self.mechanism
        if mechanism.works:
            if problem := mechanism.network_problem(network, platform.machine()):
                return Decision(problem=f"the network cannot be restricted: {problem}")
            gaps = list(mechanism.gaps(mode, network))
            return Decision(
                enforcement=Enforcement(mode=mode, by=mechanism.by(network), gaps=gaps),
                network=network,
            )
        what = f"sandbox_mode {mode} is not enforced by the operating system ({mechanism.reason})"
        is_off = self._config.sandbox == "off"
        if self._config.sandbox_require or spec.network == "off" or (must_hold and not is_off):
            return Decision(problem=f"{what}: {MEND}")
        has_own = mode in backend.sandbox_modes
        gaps = ["os"] if has_own else ["os", "cli"]
        return Decision(
            enforcement=Enforcement(mode=mode, by="cli" if has_own else "none", gaps=gaps),
            warnings=(what,),
        )

    @contextlib.contextmanager
    def wrap(
        self,
        decision: Decision,
        command: Command,
        backend: Backend,
        directory: Directory,
        inherited: Mapping[bytes, bytes],
        kept: str | None = None,
        readable: Sequence[str] = (),
    ) -> Iterator[Wrapped]:
        """Give a task's command as it is started, in its sandbox if there is one.

        `inherited` is the environment that it gets beside its own variables. `kept` is a directory
        for the sessions of its CLI. It may read the directories of `readable`, too.

        Raises:
            OSError: the program is not there.
            WorkdirError: the task cannot run there in a sandbox.
        """
        with self._with_files(command) as (command, files):
            yield from self._wrapped(
                decision, command, backend, directory, inherited, kept, (*readable, *files)
            )

    @contextlib.contextmanager
    def _with_files(self, command: Command) -> Iterator[tuple[Command, Sequence[str]]]:
        """Write the files that a command reads, and put their paths among its arguments."""
        if not command.files:
            yield command, ()
            return
        with self._private.written(command.files.values()) as paths:
            places = dict(zip(command.files, paths, strict=True))
            argv = tuple(places.get(word, word) for word in command.argv)
            yield replace(command, argv=argv, files={}), paths

    def _wrapped(
        self,
        decision: Decision,
        command: Command,
        backend: Backend,
        directory: Directory,
        inherited: Mapping[bytes, bytes],
        kept: str | None,
        readable: Sequence[str],
    ) -> Iterator[Wrapped]:
        if decision.network is None or decision.enforcement is None:
            yield Wrapped(command=command, confined=None, cwd=directory.start_path)
            return
        decoded = {os.fsdecode(name): os.fsdecode(value) for name, value in inherited.items()}
        environment = {**decoded, **command.env}
        home = os.path.normpath(environment.get("HOME") or NOWHERE)
        program = _located(command.argv[0], environment)
        cli = self._files(backend, [program], environment, home)
        cli = replace(cli, readable=(*cli.readable, *readable))
        with self._private.make() as private, contextlib.ExitStack() as closer:
            mode: Mode = "workspace" if decision.enforcement.mode == "workspace" else "read-only"
            plan = Plan(
                mode=mode,
                workdir=_checked(directory, home, private, cli),
                home=home,
                private=private,
                system=system_files(),
                cli=cli,
                network=decision.network,
                kept=kept,
            )
            checkout = None
            if plan.workdir is not None:
                checkout = closer.enter_context(closing(_checkout(plan, directory)))
            mounts = checkout.mounts if checkout else []
            confined = closer.enter_context(
                closing(confined_by(self.mechanism, [mount.fd for mount in mounts]))
            )
            argv = (program, *command.argv[1:])
            _fill(plan, with_links=not isinstance(confined, Namespace))
            yield Wrapped(
                command=replace(
                    command,
                    argv=command_line(self.mechanism, plan, mounts, confined, argv),
                    env=dict(command.env) | _moved_variables(plan, confined, environment),
                ),
                confined=confined,
                cwd=directory.start_path if plan.workdir else private.temporary,
                checkout=checkout,
            )

    def _files(
        self, backend: Backend, run: Sequence[str], environment: Mapping[str, str], home: str
    ) -> CliFiles:
        paths = backend.sandbox_paths(environment)
        named = self._config.paths.get(backend.name, ())

        def absolute(names: Sequence[str]) -> tuple[str, ...]:
            return tuple(os.path.normpath(_expanded(name, home)) for name in names)

        def existing(names: Sequence[str]) -> tuple[str, ...]:
            return tuple(filter(os.path.exists, absolute(names)))

        needed = programs.readable(
            (*run, *absolute(paths.programs)), environment.get("PATH", os.defpath), home
        )
        return CliFiles(
            readable=(*needed, *existing(named)),
            settings=existing((*USER_SETTINGS, *paths.settings)),
            credentials=existing(paths.credentials),
            copied=existing(paths.copied),
            directories=tuple(
                (variable, absolute([path])[0]) for variable, path in paths.directories.items()
            ),
            sessions=absolute(paths.sessions),
        )


MEND = (
    "install bubblewrap 0.10 or later, or use Linux 6.2 or later with Landlock; or set "
    "worker.sandbox: off to rely on the CLI's own restrictions"
)


def restricted_mode(spec: TaskSpec) -> Mode | None:
    """Return a task's sandbox mode if it restricts anything."""
    match spec.sandbox_mode:
        case "read-only" | "workspace":
            return spec.sandbox_mode
        case _:
            return None


def _located(program: str, environment: Mapping[str, str]) -> str:
    """Return the path of a program: in the sandbox nobody could say that it is not installed."""
    found = shutil.which(program, path=environment.get("PATH", os.defpath))
    if found is None:
        raise FileNotFoundError(2, "no such program", program)
    return os.path.abspath(found)  # noqa: PTH100  (its links are followed later)


def _expanded(path: str, home: str) -> str:
    return home + path[1:] if path == "~" or path.startswith("~/") else path


def _checked(
    directory: Directory, home: str, private: PrivateDirectory, cli: CliFiles
) -> str | None:
    """Return the working directory without links in it; None for one of the task's own."""
    resolved = opened_path(directory.fd)
    if directory.is_own:
        return resolved
    problem = workdir_problem(resolved, home, private.path, cli)
    if problem is None:
        return resolved
    if directory.path == os.curdir:  # the worker's own directory, which nobody chose
        return None
    raise WorkdirError(f"workdir {resolved} cannot be sandboxed: {problem}")


def _checkout(plan: Plan, directory: Directory) -> Checkout:
    writable = plan.mode == "workspace"
    checkout = Checkout(directory.fd, writable=writable, empty=plan.private.empty)
    if problem := checkout.access_problem():
        checkout.close()
        raise WorkdirError(problem)
    return checkout


def _fill(plan: Plan, *, with_links: bool) -> None:
    """Put the CLI's own files into the private directory; `with_links` where nothing is mounted."""
    for _, _, own in plan.own_directories():
        os.makedirs(own, exist_ok=True)  # noqa: PTH103
    for path, kept in plan.kept_sessions():
        os.makedirs(kept, 0o700, exist_ok=True)  # noqa: PTH103
        if with_links and (place := plan.own_place(path)) is not None:
            os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120
            os.symlink(kept, place)  # noqa: PTH211
    for path in plan.cli.copied:
        if (place := plan.own_place(path)) is not None:
            os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120
            shutil.copyfile(path, place)
    for path in (*plan.cli.settings, *plan.cli.credentials) if with_links else ():
        if (place := plan.own_place(path)) is not None:
            os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120
            os.symlink(path, place)  # noqa: PTH211


def _moved_variables(
    plan: Plan, confined: Restricted, environment: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables that name another directory where nothing can be mounted."""
    if isinstance(confined, Namespace):
        return {}
    moved = {variable: own for variable, _, own in plan.own_directories()}
    for name, value in environment.items():
        if name.startswith("XDG_") and (own := plan.own_place(value)) is not None:
            moved[name] = own
    return {**moved, "HOME": plan.private.home, "TMPDIR": plan.private.temporary}
