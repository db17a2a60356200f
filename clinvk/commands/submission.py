"""From the tasks of a run to its exit code: what parallel, chain and compare have in common."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from clinvk.backends import BackendRegistry
from clinvk.commands import budgets
from clinvk.core import exit_codes
from clinvk.core.errors import UsageError
from clinvk.core.sanitize import one_line
from clinvk.core.spec import RunOptions, StepDetail, TaskSpec, queue_of
from clinvk.local import reach, requirements
from clinvk.output import documents, estimate_words, plan
from clinvk.output.formatter import Formatter
from clinvk.output.kinds import formatter_of
from clinvk.output.presenter import COMMAND, Audience, Presenter
from clinvk.output.reporter import View
from clinvk.output.streams import Output, note
from clinvk.runs.client import key_problem

if TYPE_CHECKING:
    from clinvk.commands.options import CommonOptions
    from clinvk.config.settings import Settings
    from clinvk.core.estimates import Estimates
    from clinvk.local.records import RunKey

SECONDS_PER_DAY = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The tasks of a run, with all settings of tasks applied, and what their file says of the run.

    `sources` names the place of each task in its file; `backends` are all that may run one of them,
    `choices` those that they may start with (`TaskSpec.choices`), and with
    `has_fallback` some can go on elsewhere; `output_dir` and the two limits are the file's own.
    """

    specs: Sequence[TaskSpec]
    sources: Sequence[str]
    backends: Collection[str]
    choices: Collection[tuple[str, ...]]
    run_options: RunOptions
    has_fallback: bool = False
    output_dir: str | None = None
    max_cost_usd: float | None = None
    max_tokens_total: int | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A run with everything decided; without a `broker_url` it gets a private server.

    `given` are the tasks as they were given, where those of `work` may begin elsewhere: the key of
    a run stands for them.
    `own_files` are those that this command reads and writes itself.
    """

    work: Work
    broker_url: str | None
    run_key: str
    detach: bool
    wait_for_workers: bool
    view: View
    formatter: Formatter
    given: Sequence[TaskSpec] | None = None
    own_files: Sequence[str] = ()


class ChangedTasks(Sequence[TaskSpec]):
    """Tasks as `change` makes them, as each is looked at: they need not all be in memory."""

    def __init__(self, specs: Sequence[TaskSpec], change: Callable[[TaskSpec], TaskSpec]) -> None:
        self._specs = specs
        self._change = change

    def __len__(self) -> int:
        return len(self._specs)

    @overload
    def __getitem__(self, index: int) -> TaskSpec: ...
    @overload
    def __getitem__(self, index: slice) -> list[TaskSpec]: ...
    def __getitem__(self, index: int | slice) -> TaskSpec | list[TaskSpec]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._change(self._specs[index])


def with_steps(specs: Sequence[TaskSpec], detail: StepDetail) -> Sequence[TaskSpec]:
    """Return tasks with this detail of steps; the same where that is the default."""
    if detail == "summary":
        return specs
    return ChangedTasks(specs, lambda spec: replace(spec, steps=detail))


def beginning_with_served(work: Work, served: Collection[str]) -> Work:
    """Let tasks of which no own backend is served begin with a fallback that is.

    `served` are queues. A task that has no such fallback stays as it is.
    """

    def are_served(names: Sequence[str]) -> bool:
        return any(queue_of(name) in served for name in names)

    def change(spec: TaskSpec) -> TaskSpec:
        entries = () if are_served(spec.choices) else spec.fallback or ()
        found = [entry for entry in entries if are_served([entry.partition(":")[0]])]
        return spec.without_choices(found[0]) if found else spec

    if all(are_served(names) for names in work.choices):
        return work
    specs = ChangedTasks(work.specs, change)
    choices = dict.fromkeys(spec.choices for spec in specs)
    for names in sorted(set(work.choices) - choices.keys()):
        note(f"warning: {_nobody(work, ' or '.join(names))}: tasks begin with a fallback")
    return replace(work, specs=specs, choices=choices)


def _nobody(work: Work, names: str) -> str:
    requires = work.run_options.requires
    what = f" with what the run requires ({requires})" if requires else ""
    return f"no live worker serves {names}{what}"


def resolver(settings: Settings, options: CommonOptions) -> Callable[[TaskSpec], TaskSpec]:
    """Return what applies the configuration, and the options for tasks, to a task."""
    return partial(settings.resolve, max_wait_seconds=options.max_wait_seconds, reuse=options.reuse)


def plan_run(settings: Settings, options: CommonOptions, work: Work) -> PlannedRun:
    """Apply the settings of runs to the work, and load its backends."""
    settings.load_backends(work.backends)
    output_dir = settings.pick(options.paths.get("output_dir"), work.output_dir, "output_dir")
    with_transcripts = bool(output_dir) and not options.detach
    run_options = replace(
        work.run_options,
        priority=options.priority,
        keep_seconds=settings.config.runs.keep_days * SECONDS_PER_DAY,
        **budgets.of_run(
            settings, options, work.backends, work.max_cost_usd, work.max_tokens_total
        ),
    )
    return PlannedRun(
        work=replace(
            work,
            specs=with_steps(work.specs, settings.step_detail(with_transcripts=with_transcripts)),
            run_options=run_options,
        ),
        broker_url=settings.broker_url(options.broker),
        run_key=options.run_key or "",
        detach=options.detach,
        wait_for_workers=options.wait_for_workers,
        view=View(
            as_json=options.as_json,
            quiet=options.quiet,
            with_table=settings.config.parallel.aggregate_output,
            with_steps=options.verbose,
            paths={**options.paths, **({"output_dir": output_dir} if output_dir else {})},
        ),
        formatter=formatter_of(run_options.kind),
        own_files=[*_named_files(settings, options), *([output_dir] if output_dir else [])],
    )


def _named_files(settings: Settings, options: CommonOptions) -> Iterator[str]:
    """Yield the files that the command line names, and those that output is redirected to.

    They may lie in the checkout that the tasks work in, and change with each run.
    """
    yield str(settings.path)
    yield from options.own_files()
    for stream in (0, 1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(stream).st_mode):
                yield os.readlink(f"/proc/self/fd/{stream}")  # noqa: PTH115


def carry_out(settings: Settings, options: CommonOptions, planned: PlannedRun) -> int:
    """Start a planned run, or print what it would run; returns the exit code."""
    if not options.dry_run:
        if options.estimate:
            raise UsageError("--estimate is of a dry run: use --dry-run --estimate")
        return execute(settings, planned)
    estimates = budgets.estimates(settings, planned.broker_url) if options.estimate else None
    return print_plan(settings, planned, estimates)


def print_plan(settings: Settings, planned: PlannedRun, estimates: Estimates | None = None) -> int:
    """Print every command as it would run, and each warning once; with `estimates` what it uses."""
    from workers.execution.environment import Environments  # only a dry run needs it

    registry = BackendRegistry.from_config(settings.worker.backends)
    warnings: dict[str, None] = {}
    total = estimates and estimates.total(planned.work.specs)
    requires = planned.work.run_options.requires

    quiet = Environments(settings.worker).quiet_arguments
    is_here = planned.broker_url is None

    def rows() -> Iterator[plan.Planned]:
        for item in plan.plan(
            planned.work.specs,
            planned.work.sources,
            registry.get,
            quiet if is_here else lambda _: None,
        ):
            warnings.update(dict.fromkeys(item.warnings))
            if estimates is not None:
                item = replace(item, estimate=estimates.of(item.spec.backend, item.spec.model))
            yield item

    def lines() -> Iterator[str]:
        yield from [f"requires {requires}"] if requires else ()
        yield from plan.lines(rows())
        yield from estimate_words.total_lines(total) if total else ()

    head: dict[str, Any] = {"estimate": estimate_words.total_document(total)} if total else {}
    head |= {"requires": requires.to_dict()} if requires else {}
    Output(sys.stdout).write_all(
        documents.listing(head, "tasks", plan.entries(rows()))
        if planned.view.as_json
        else (f"{line}\n" for line in lines())
    )
    if planned.broker_url is None:
        missing = settings.missing(sorted(planned.work.backends))
        warnings.update({f"{name} is not installed here: {hint}": None for name, hint in missing})
        warnings.update(
            dict.fromkeys(requirements.unmet(settings, requires, _choices(planned.work))[1])
        )
    for warning in warnings:
        note(f"warning: {one_line(warning)}")
    return exit_codes.OK


def execute(settings: Settings, planned: PlannedRun, audience: Audience = COMMAND) -> int:
    """Submit the tasks, and follow the run unless it is detached; returns the exit code."""
    if planned.broker_url is not None:
        return _submit(settings, _for_fleet(planned, planned.broker_url), None, audience)
    if not planned.run_key:
        return _submit(settings, planned, None, audience)
    try:
        key = reach.records_of(settings).key(planned.run_key)
    except OSError as error:
        raise UsageError(f"--run-key: the run cannot be recorded: {error} (runs.dir)") from error
    try:
        return _submit_once(settings, planned, key, audience)
    finally:
        key.release()


def _for_fleet(planned: PlannedRun, broker_url: str) -> PlannedRun:
    """Return a run whose tasks begin where a fleet can run them, unless it waits for workers."""
    work = planned.work
    if not work.has_fallback or planned.wait_for_workers:
        return planned
    served = reach.served(broker_url, work.run_options.requires)
    _note_unserved(work, served)
    return replace(planned, work=beginning_with_served(work, served), given=work.specs)


def _note_unserved(work: Work, served: Collection[str]) -> None:
    """Warn of backends that tasks may fall back on, and that no live worker serves."""
    own = {name for names in work.choices for name in names}
    for name in sorted(set(work.backends) - own):
        if queue_of(name) not in served:
            note(f"warning: {_nobody(work, name)}: a task that falls back on it waits")


def _submit_once(settings: Settings, planned: PlannedRun, key: RunKey, audience: Audience) -> int:
    """Submit a local run under its key; follow the one that was, and let it go on if need be."""
    from clinvk.runs.celery_client import digest_of

    digest = digest_of(planned.work.specs, planned.work.run_options)
    run, its_digest = key.read() or ("", "")
    record = reach.records_of(settings).find(run)
    if record is None or not record.has_summary():
        return _submit(settings, planned, (key, digest), audience)
    if its_digest != digest:
        raise UsageError(key_problem(planned.run_key, run))
    key.release()
    from clinvk.commands import interrupted  # loads what a dry run does not need

    return interrupted.resume(
        settings, None, run, planned.view, detach=planned.detach, audience=audience
    )


def _submit(
    settings: Settings,
    planned: PlannedRun,
    key: tuple[RunKey, str] | None,
    audience: Audience,
) -> int:
    work, requires = planned.work, planned.work.run_options.requires
    presenter = _presenter(planned, work.specs, audience)
    worker = settings.worker
    if planned.broker_url is None:
        worker = requirements.checked(settings, requires, _choices(work))
    with (
        reach.connect(
            planned.broker_url,
            worker=replace(worker, reuse_ignores=planned.own_files),
            queues=sorted(map(queue_of, work.backends)),
            slots=min(work.run_options.max_parallel, len(work.specs)),
            server=settings.config.local.server,
            records=reach.records_of(settings),
            detach=planned.detach,
            key=key,
        ) as client,
        audience.interruption(lambda line: presenter.note(line)) as interruption,
    ):
        if planned.broker_url is not None and not planned.wait_for_workers:
            client.check_served(work.choices, requires)
        if planned.broker_url is None:
            budgets.prepare(settings, client, "", work.run_options)
        client.ship_bytes = settings.config.worktrees.ship_bytes
        run = client.submit(work.specs, work.run_options, planned.run_key, planned.given)
        if key is not None:
            key[0].release()
        if planned.run_key and planned.given is not None:
            # Whoever was first with the key has chosen where they begin.
            presenter = _presenter(planned, run.specs(), audience)
        if planned.detach:
            presenter.submitted(run.id)
            return exit_codes.OK
        return presenter.show(run, interruption)


def _choices(work: Work) -> list[tuple[str, ...]]:
    """Return the backends of which one has to be there for each task, or for going on with it."""
    own = {name for names in work.choices for name in names}
    return [*work.choices, *((name,) for name in work.backends if name not in own)]


def _presenter(planned: PlannedRun, specs: Sequence[TaskSpec], audience: Audience) -> Presenter:
    options = planned.work.run_options
    return Presenter(planned.view, planned.formatter, specs, options, audience=audience)
