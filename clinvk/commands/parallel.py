"""`clinvk parallel`: run the tasks of a file at once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from clinvk.backends import BackendRegistry
from clinvk.commands.submission import Work, carry_out, plan_run, resolver
from clinvk.core.errors import UsageError
from clinvk.core.requirements import Requirements
from clinvk.core.spec import RunOptions
from clinvk.taskfile import each, reader, sources
from clinvk.taskfile.raw_tasks import RawTasks, list_numbering
from clinvk.taskfile.routes import requirement_problems
from clinvk.taskfile.schema import TASKS, ParsedFile, TaskFileHeader

if TYPE_CHECKING:
    from clinvk.commands.options import ParallelOptions
    from clinvk.config.settings import Settings


def run(settings: Settings, options: ParallelOptions) -> int:
    """Run a task file, or print what would run; returns the exit code."""
    return carry_out(settings, options, plan_run(settings, options, read(settings, options)))


def read(settings: Settings, options: ParallelOptions) -> Work:
    """Read the task file; what it says of the run gives way to flags and environment.

    Raises:
        TaskFileError: with every problem of the file.
    """
    resolve = resolver(settings, options)
    with _opened(settings, options) as (stream, name):
        parsed = reader.parse(
            stream, name, settings.backends, TASKS, resolve, is_lenient=options.lenient
        )
    return _work(settings, options, parsed)


def take(
    settings: Settings, options: ParallelOptions, tasks: Iterable[Mapping[str, Any]], name: str
) -> Work:
    """Take tasks of a program, in the form of a file's; `name` is what messages call the list.

    Raises:
        TaskFileError: with every problem of the tasks.
    """
    raw = RawTasks(tasks=enumerate(tasks), numbering=list_numbering(TASKS.key))
    resolve = resolver(settings, options)
    return _work(settings, options, reader.validate(raw, name, settings.backends, TASKS, resolve))


def _work(settings: Settings, options: ParallelOptions, parsed: ParsedFile[TaskFileHeader]) -> Work:
    pick, header = settings.pick, parsed.header
    return Work(
        specs=parsed.tasks,
        sources=parsed.sources,
        backends=parsed.backends,
        choices=parsed.choices,
        has_fallback=parsed.has_fallback,
        run_options=RunOptions(
            max_parallel=pick(options.max_parallel, header.max_parallel, "parallel", "max_workers"),
            fail_fast=pick(options.fail_fast, header.fail_fast, "parallel", "fail_fast"),
            requires=_requires(settings, options.requires, header.requires),
        ),
        output_dir=header.output_dir,
        max_cost_usd=header.max_cost_usd,
        max_tokens_total=header.max_tokens_total,
    )


def _requires(
    settings: Settings, given: Mapping[str, Any] | None, in_file: Mapping[str, Any] | None
) -> Requirements:
    """Return what a program requires, or else a file.

    Raises:
        UsageError: what the program requires is not valid.
    """
    if given is None:
        return Requirements.of(in_file or {})
    for at, what in requirement_problems(given, settings.backends):
        raise UsageError(f"{at}: {what}")
    return Requirements.of(given)


def _opened(
    settings: Settings, options: ParallelOptions
) -> AbstractContextManager[tuple[Iterable[bytes], str]]:
    """Open the task file, or what stands for one: a prompt for each of many things."""
    if options.prompt is None and not (options.each or options.each_line or options.backend):
        return sources.opened(options.file, sys.stdin.buffer)
    if options.prompt is None:
        raise UsageError("--each, --each-line and --backend need --prompt")
    if options.file is not None:
        raise UsageError("--prompt is instead of --file: give one of them")
    if bool(options.each) == bool(options.each_line):
        raise UsageError("--prompt needs either --each GLOB or --each-line FILE")
    if options.prompt == "-" == options.each_line:
        raise UsageError("--prompt and --each-line cannot both read standard input")
    return _each(options, _prompt(options.prompt), _backend(settings, options.backend))


@contextmanager
def _each(
    options: ParallelOptions, prompt: str, common: Mapping[str, str]
) -> Iterator[tuple[Iterable[bytes], str]]:
    """Give the lines of a task file that has a task for each thing."""
    if options.each:
        yield each.task_lines(each.files(options.each, prompt), prompt, common), "--each"
        return
    with sources.opened(options.each_line, sys.stdin.buffer, "file") as (stream, name):
        yield each.task_lines(each.lines(stream, name, prompt), prompt, common), "--each-line"


def _prompt(given: str) -> str:
    return sources.read("-", sys.stdin.buffer, "prompt")[0] if given == "-" else given


def _backend(settings: Settings, given: str | None) -> dict[str, str]:
    """Return the fields of a task that say who runs it: the only CLI here, if none is named.

    Raises:
        UsageError: none is named, and there are several here, or none.
    """
    if given is not None:
        backend, colon, model = given.partition(":")
        return {"backend": backend, **({"model": model} if colon else {})}
    registry = BackendRegistry.from_config(settings.worker.backends)
    here = [name for name in settings.installed() if not registry.get(name).is_demo]
    if len(here) != 1:
        which = ", ".join(here) or "no CLI"
        raise UsageError(f"name the backend with --backend ({which} installed here)")
    return {"backend": here[0]}
