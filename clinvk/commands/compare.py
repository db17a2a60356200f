"""`clinvk compare`: a run of one prompt, with a task for each backend."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clinvk.backends import BackendRegistry
from clinvk.commands.submission import PlannedRun, Work, carry_out, plan_run, resolver
from clinvk.core.errors import BrokerError, TaskFileError, UsageError
from clinvk.core.spec import RunOptions, TaskSpec, queue_of
from clinvk.local import reach
from clinvk.output import presenter
from clinvk.output.kinds.compare import SideBySide
from clinvk.output.streams import note
from clinvk.taskfile import sources
from clinvk.taskfile.answer_fields import Schemas
from clinvk.taskfile.task_validation import check_task

if TYPE_CHECKING:
    from clinvk.commands.options import CompareOptions
    from clinvk.config.settings import Settings

ARGUMENT = "PROMPT"


def run(settings: Settings, options: CompareOptions) -> int:
    """Send one prompt to several backends, or print what would run; returns the exit code."""
    if options.all_backends == (options.backends is not None):
        raise UsageError("name the backends: --backends claude,codex or --all-backends")
    prompt, source = read_prompt(options)
    resolve = resolver(settings, options)
    given = {name: value for name, value in options.task_fields.items() if value is not None}
    specs = check(settings, labels_of(settings, options), prompt, source, given)
    work = Work(
        specs=[alone(resolve(spec), options.workspace) for spec in specs],
        sources=[source] * len(specs),
        backends={spec.backend for spec in specs},
        choices={spec.choices for spec in specs},
        run_options=RunOptions(
            kind="compare", max_parallel=1 if options.sequential else len(specs)
        ),
    )
    planned = plan_run(settings, options, work)
    if options.backends is not None and planned.broker_url is None and not options.dry_run:
        check_installed(settings, specs)
    return carry_out(settings, options, side_by_side(planned) if options.side_by_side else planned)


def alone(spec: TaskSpec, workspace: str | None = None) -> TaskSpec:
    """Return a task without the fallback of its backend: an answer is compared as its backend's.

    A `workspace` of the command line beats that of the environment.
    """
    if workspace is not None:
        spec = replace(spec, workspace="worktree" if workspace == "worktree" else None)
    return replace(spec, fallback=None, variants={})


def side_by_side(planned: PlannedRun) -> PlannedRun:
    """Print the answers in columns, where the terminal is wide enough."""
    formatter = SideBySide(len(planned.work.specs), presenter.width())
    if planned.view.is_text and not formatter.fits:
        note(f"warning: a terminal of {presenter.width()} columns is too narrow for --side-by-side")
    return replace(planned, formatter=formatter)


def labels_of(settings: Settings, options: CompareOptions) -> list[str]:
    """Return the labels of the backends to compare, `backend` or `backend:model`."""
    if options.backends is None:
        return available(settings, settings.broker_url(options.broker), options)
    return [label.strip() for label in options.backends.split(",") if label.strip()]


def read_prompt(options: CompareOptions) -> tuple[str, str]:
    """Return the prompt, and the name of its source for messages.

    Raises:
        UsageError: none was given, two were, or it cannot be read.
    """
    if (options.prompt is None) == (options.file is None):
        raise UsageError("give one prompt: as an argument, as - for standard input, or with --file")
    if options.prompt is None or options.prompt == "-":
        return sources.read(options.file, sys.stdin.buffer, "prompt")
    return options.prompt, ARGUMENT


def check(
    settings: Settings,
    labels: Sequence[str],
    prompt: str,
    source: str,
    given: Mapping[str, Any],
) -> list[TaskSpec]:
    """Make a task for each label, with the fields that are `given`.

    `backend:model` is also the name of its task.

    Raises:
        TaskFileError: with every problem.
    """
    specs, problems, schemas = [], dict[str, None](), Schemas()
    for label in labels:
        backend, colon, model = label.partition(":")
        body = {"backend": backend, "prompt": prompt, **given}
        body |= {"model": model, "name": label} if colon else {}
        spec, found = check_task(body, settings.backends, schemas=schemas)
        options = {name: f"--{name}" for name in given}
        places = {"prompt": source, "backend": "--backends", **options}
        for at, what in found:
            place = places.get(at, f"--backends: {label}")
            problems[f"{place}: {what}"] = None
        specs += [spec] if spec is not None else []
    if not labels:
        problems["--backends: must name at least one backend"] = None
    if problems:
        raise TaskFileError(list(problems))
    return specs


def available(settings: Settings, broker: str | None, options: CompareOptions) -> list[str]:
    """Return all enabled backends that are served, and warn about each one that is skipped.

    Without a broker, this machine serves what is installed on it.

    Raises:
        BrokerError: no enabled backend is served.
    """
    registry = BackendRegistry.from_config(settings.worker.backends)
    wanted = [
        name
        for name, enabled in settings.backends.items()
        if enabled and not (registry.get(name).is_demo or registry.get(name).only_named)
    ]
    if broker is None:
        served, how = set(map(queue_of, settings.installed())), "installed here"
    elif options.wait_for_workers:
        served, how = set(map(queue_of, wanted)), "enabled"
    else:
        served, how = reach.served(broker), "served by a live worker"
    found = [name for name in wanted if queue_of(name) in served]
    if not found:
        raise BrokerError(f"no backend to compare: no enabled one is {how}")
    for name in wanted:
        if name not in found:
            note(f"warning: skipped {name}: it is not {how}")
    return found


def check_installed(settings: Settings, specs: Sequence[TaskSpec]) -> None:
    """Check that the backends that were named are installed on this machine.

    Raises:
        BrokerError: one of them is not.
    """
    for name, hint in settings.missing(spec.backend for spec in specs):
        raise BrokerError(f"{name} is not installed here: {hint}")
