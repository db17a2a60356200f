"""`clinvk compare`: a run of one prompt, with a task for each backend."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from clinvk.backends import BackendRegistry
from clinvk.commands.parallel import PlannedRun, carry_out, plan_run
from clinvk.core.errors import BrokerError, TaskFileError, UsageError
from clinvk.core.spec import RunOptions, TaskSpec, queue_of
from clinvk.local import reach
from clinvk.output import presenter, progress
from clinvk.output.compare import SideBySide
from clinvk.taskfile import reader

if TYPE_CHECKING:
    from clinvk.commands.options import CompareOptions
    from clinvk.config.settings import Settings

ARGUMENT = "PROMPT"


def run(settings: Settings, options: CompareOptions) -> int:
    """Send one prompt to several backends, or show what would run; returns the exit code."""
    if options.all_backends == (options.backends is not None):
        raise UsageError("say which backends: --backends claude,codex or --all-backends")
    prompt, source = read_prompt(options)
    broker = settings.broker_url(options.broker)
    if options.backends is not None:
        labels = [label.strip() for label in options.backends.split(",") if label.strip()]
    else:
        labels = served_here(settings, broker, options)
    specs = check(settings, labels, prompt, source)
    if options.backends is not None and broker is None and not options.dry_run:
        check_installed(settings, specs)
    run_options = RunOptions(kind="compare", max_parallel=1 if options.sequential else len(specs))
    settled = [settings.resolve(spec) for spec in specs]
    backends = {spec.backend for spec in specs}
    planned = plan_run(settings, options, settled, [source] * len(specs), backends, run_options)
    return carry_out(settings, options, side_by_side(planned) if options.side_by_side else planned)


def side_by_side(planned: PlannedRun) -> PlannedRun:
    """Show the answers in columns."""
    form = SideBySide(len(planned.specs), presenter.width())
    if planned.view.is_text and not form.fits:
        progress.note(f"warning: {presenter.width()} columns are too few for --side-by-side")
    return replace(planned, view=replace(planned.view, form=form))


def read_prompt(options: CompareOptions) -> tuple[str, str]:
    """Return the prompt, and where it comes from."""
    if (options.prompt is None) == (options.file is None):
        raise UsageError("give one prompt: as the argument, - for standard input, or with --file")
    if options.prompt is None or options.prompt == "-":
        return reader.read(options.file, sys.stdin.buffer, "prompt")
    return options.prompt, ARGUMENT


def check(settings: Settings, labels: Sequence[str], prompt: str, source: str) -> list[TaskSpec]:
    """Make a task for each label, `backend` or `backend:model`; the latter is its name, too.

    Raises:
        TaskFileError: with all that is wrong.
    """
    specs, problems = [], dict[str, None]()
    for label in labels:
        backend, colon, model = label.partition(":")
        body = {"backend": backend, "prompt": prompt}
        body |= {"model": model, "name": label} if colon else {}
        spec, found = reader.check_task(body, settings.backends)
        for at, what in found:
            place = {"prompt": source, "backend": "--backends"}.get(at, f"--backends: {label}")
            problems[f"{place}: {what}"] = None
        specs += [spec] if spec is not None else []
    if not labels:
        problems["--backends: names no backend"] = None
    if problems:
        raise TaskFileError(list(problems))
    return specs


def served_here(settings: Settings, broker: str | None, options: CompareOptions) -> list[str]:
    """Return all backends that somebody serves; what is left out is told.

    Without a broker, this machine is the fleet, and serves what is installed.

    Raises:
        BrokerError: there is none.
    """
    registry = BackendRegistry.from_config(settings.worker.backends)
    wanted = [
        name
        for name, enabled in settings.backends.items()
        if enabled and not registry.get(name).is_demo
    ]
    if broker is None:
        served, how = set(map(queue_of, settings.installed())), "installed here"
    elif options.wait_for_workers:
        served, how = set(map(queue_of, wanted)), "enabled"
    else:
        served, how = reach.served(broker), "served by a live worker"
    found = [name for name in wanted if queue_of(name) in served]
    if not found:
        raise BrokerError(f"nothing to compare: no enabled backend is {how}")
    for name in wanted:
        if name not in found:
            progress.note(f"warning: {name} is left out: it is not {how}")
    return found


def check_installed(settings: Settings, specs: Sequence[TaskSpec]) -> None:
    """Make sure that this machine serves what was named.

    Raises:
        BrokerError: it does not.
    """
    installed = settings.installed()
    registry = BackendRegistry.from_config(settings.worker.backends)
    for spec in specs:
        if spec.backend not in installed:
            hint = registry.get(spec.backend).install_hint
            raise BrokerError(f"{spec.backend} is not installed here: {hint}")
