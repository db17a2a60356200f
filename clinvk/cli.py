"""The command line: parse, one call, print, exit.

Nothing heavy is imported at the top: `--help` and complaints about the command line need
neither Celery nor pydantic.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from clinvk import __version__
from clinvk.commands.options import ChainOptions, CompareOptions, ParallelOptions
from clinvk.core.errors import BrokerError, ClinvkError, ConfigError, UsageError

if TYPE_CHECKING:
    from clinvk.config.settings import Settings
    from clinvk.runs.celery_client import CeleryClient

CONTEXT = {"help_option_names": ["-h", "--help"]}


def main() -> None:
    """Run the command line and exit with its code; no error leaves a traceback."""
    open_standard_streams()
    try:
        code = cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:  # Ctrl-C outside of a run
        code = 130
    except ClinvkError as error:
        complain(error)
        code = exit_code(error)
    except Exception as error:
        if os.environ.get("CLINVK_DEBUG"):
            raise
        message = f"clinvk: unexpected {type(error).__name__}: {error}"
        click.echo(f"{message} (CLINVK_DEBUG=1 shows where)", err=True)
        code = 1
    flush_standard_streams()
    sys.exit(code)


def flush_standard_streams() -> None:
    """Let go of what nobody can read any more: the interpreter would exit with 120 for it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_standard_streams() -> None:
    """Make sure of stdin, stdout and stderr, whatever the caller closed; print UTF-8.

    A closed one would give its number to the next file or socket that is opened.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  (stays open)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # JSON is UTF-8 in every locale; half of a surrogate pair is no reason to stop.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def complain(error: ClinvkError) -> None:
    """Print what is wrong, one line for each problem."""
    from clinvk.output.sanitize import one_line

    for problem in getattr(error, "problems", (f"clinvk: {error}",)):
        click.echo(one_line(problem), err=True)  # it may quote a name from a task file


def exit_code(error: ClinvkError) -> int:
    """Return the exit code of an error."""
    from clinvk.runs import report

    match error:
        case UsageError():
            return report.EXIT_USAGE
        case ConfigError():
            return report.EXIT_CONFIG
        case BrokerError():
            return report.EXIT_BROKER
        case _:
            return report.EXIT_TASK_FAILED


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="clinvk")
def cli() -> None:
    """Run many prompts through AI coding CLIs at once and bring back ordered results."""


broker_option = click.option("--broker", metavar="URL", help="Use the fleet behind this Redis.")
config_option = click.option("--config", metavar="FILE", help="Use this configuration file.")


COMMON_OPTIONS = (
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    click.option("-q", "--quiet", is_flag=True, help="Print the totals only."),
    click.option("--output-dir", metavar="DIR", help="Write a file per task, and a summary."),
    click.option("--dry-run", is_flag=True, help="Print the commands; start nothing."),
    click.option("--detach", is_flag=True, help="Submit to the fleet, print the run's id, return."),
    click.option("--run-key", metavar="KEY", help="Submit once: a second time gives the same run."),
    click.option(
        "--priority", type=int, default=0, metavar="N", help="Before runs of a lower one."
    ),
    click.option(
        "--wait-for-workers", is_flag=True, help="Submit even if no worker serves it yet."
    ),
    broker_option,
    config_option,
)


def common_options(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that all runs have."""
    for option in reversed(COMMON_OPTIONS):
        function = option(function)
    return function


def expecting_a_run(config: str | None, options: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Let local mode get ready while the rest is loaded and read, where it will be needed."""
    if options["dry_run"] or options["detach"] or options["run_key"]:
        return nullcontext()
    from clinvk.local import start

    return start.expected(options["broker"], config)


@cli.command()
@click.option("-f", "--file", metavar="FILE", help="Task file; standard input without it.")
@click.option("--max-parallel", type=click.IntRange(min=1), metavar="N", help="Tasks at once.")
@click.option(
    "--fail-fast/--no-fail-fast", default=None, help="Stop everything at the first failure."
)
@click.option("--lenient", is_flag=True, help="Find the task file in what a model wrote.")
@common_options
def parallel(config: str | None, **options: Any) -> int:
    """Run the tasks of a file at once, with ordered results.

    Exit codes: 0 every task ok, 1 a task failed, was canceled or lost, 2 bad usage or task
    file, 3 bad configuration, 4 the broker cannot be reached, 130 interrupted.
    """
    with expecting_a_run(config, options):
        from clinvk.commands import parallel
        from clinvk.config import settings

        return parallel.run(settings.load(config), ParallelOptions(**options))


@cli.command()
@click.option("-f", "--file", metavar="FILE", help="Steps; standard input without it.")
@common_options
def chain(config: str | None, **options: Any) -> int:
    """Run the steps of a file one after the other, the output of one in the prompt of the next.

    Exit codes are those of `clinvk parallel`.
    """
    with expecting_a_run(config, options):
        from clinvk.commands import chain
        from clinvk.config import settings

        return chain.run(settings.load(config), ChainOptions(**options))


@cli.command()
@click.argument("prompt", required=False)
@click.option("-f", "--file", metavar="FILE", help="Take the prompt from a file; - is stdin.")
@click.option("--backends", metavar="NAMES", help="Which, as claude:opus,codex.")
@click.option("--all-backends", is_flag=True, help="All that are served.")
@click.option("--sequential", is_flag=True, help="One after the other.")
@click.option("--side-by-side", is_flag=True, help="Answers in columns, if the terminal is wide.")
@common_options
def compare(config: str | None, **options: Any) -> int:
    """Send one PROMPT (- is standard input) to several backends and show all answers.

    Exit codes are those of `clinvk parallel`.
    """
    with expecting_a_run(config, options):
        from clinvk.commands import compare
        from clinvk.config import settings

        return compare.run(settings.load(config), CompareOptions(**options))


@cli.command()
@click.option("--queues", metavar="NAMES", help="Backends to serve; all that are installed here.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=3, metavar="N", show_default=True
)
@click.option("--name", default="clinvk", metavar="NAME", help="The worker is called NAME@HOST.")
@broker_option
@config_option
def worker(
    config: str | None, broker: str | None, queues: str | None, concurrency: int, name: str
) -> int:
    """Serve a fleet with this machine, until told to stop. SIGTERM lets running tasks end."""
    from clinvk.commands import worker as worker_command
    from clinvk.config import settings

    worker_command.run(settings.load(config), broker, queues, concurrency, name)


def fleet_command(group: click.Group, name: str) -> Callable[[Callable[..., int]], click.Command]:
    """Make a command that gets a client of the configured fleet as its first argument."""

    def decorate(function: Callable[..., int]) -> click.Command:
        @functools.wraps(function)
        def run(broker: str | None, config: str | None, **arguments: Any) -> int:
            from clinvk.commands import fleet
            from clinvk.config import settings

            with fleet.fleet(settings.load(config), broker) as client:
                return function(client, **arguments)

        return group.command(name)(broker_option(config_option(run)))

    return decorate


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
run_argument = click.argument("run", metavar="RUN")
queue_argument = click.argument("name", metavar="QUEUE")


@fleet_command(cli, "workers")
@json_option
def workers_(client: CeleryClient, as_json: bool) -> int:
    """List the workers that are there."""
    from clinvk.commands import fleet

    return fleet.workers(client, as_json=as_json)


@cli.group(invoke_without_command=True)
@json_option
@broker_option
@config_option
@click.pass_context
def queues(context: click.Context, config: str | None, broker: str | None, as_json: bool) -> int:
    """List the queues, or set their limits."""
    if context.invoked_subcommand is not None:
        return 0
    from clinvk.commands import fleet
    from clinvk.config import settings

    with fleet.fleet(settings.load(config), broker) as client:
        return fleet.queues(client, as_json=as_json)


@fleet_command(queues, "set")
@queue_argument
@click.option("--max-concurrency", type=click.IntRange(min=0), metavar="N", help="0: no limit.")
@click.option("--rate", metavar="RATE", help="Starts per time, like 50/min; none: no limit.")
def set_(client: CeleryClient, name: str, max_concurrency: int | None, rate: str | None) -> int:
    """Set limits of a queue over the whole fleet, at once."""
    from clinvk.commands import fleet

    return fleet.set_limits(client, name, max_concurrency, rate)


@fleet_command(queues, "pause")
@queue_argument
def pause(client: CeleryClient, name: str) -> int:
    """Start nothing more of a queue; what runs goes on."""
    from clinvk.commands import fleet

    return fleet.pause(client, name, paused=True)


@fleet_command(queues, "resume")
@queue_argument
def resume(client: CeleryClient, name: str) -> int:
    """Go on with a queue that was paused."""
    from clinvk.commands import fleet

    return fleet.pause(client, name, paused=False)


@fleet_command(cli, "runs")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@json_option
def runs(client: CeleryClient, limit: int, as_json: bool) -> int:
    """List the newest runs."""
    from clinvk.commands import fleet

    return fleet.runs(client, limit, as_json=as_json)


@fleet_command(cli, "status")
@run_argument
@json_option
def status(client: CeleryClient, run: str, as_json: bool) -> int:
    """Tell how far a run is."""
    from clinvk.commands import fleet

    return fleet.status(client, run, as_json=as_json)


@fleet_command(cli, "attach")
@run_argument
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print the totals only.")
def attach(client: CeleryClient, run: str, as_json: bool, quiet: bool) -> int:
    """Follow a run from its beginning, as if never detached."""
    from clinvk.commands import fleet
    from clinvk.output.presenter import View

    return fleet.attach(client, run, View(as_json=as_json, quiet=quiet))


@fleet_command(cli, "results")
@run_argument
@json_option
@click.option("--failed", "only_failed", is_flag=True, help="Only those that are not ok.")
def results(client: CeleryClient, run: str, as_json: bool, only_failed: bool) -> int:
    """Print the results that a run has so far."""
    from clinvk.commands import fleet

    return fleet.results(client, run, as_json=as_json, only_failed=only_failed)


@fleet_command(cli, "cancel")
@run_argument
def cancel(client: CeleryClient, run: str) -> int:
    """Cancel a run: nothing of it starts any more, and what runs is stopped."""
    from clinvk.commands import fleet

    return fleet.cancel(client, run)


@fleet_command(cli, "wait")
@run_argument
def wait(client: CeleryClient, run: str) -> int:
    """Wait for the end of a run; the exit code is the run's."""
    from clinvk.commands import fleet

    return fleet.wait(client, run)


@cli.group("config")
def config_group() -> None:
    """Show the configuration."""


@config_group.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@config_option
def show(config: str | None, as_json: bool) -> int:
    """Print every setting, its effective value and where that comes from."""
    from clinvk.output import config as render
    from clinvk.output.json_document import dump

    rows = list(_settings(config).rows())
    if as_json:
        click.echo(dump(render.document(rows)), nl=False)
    else:
        for line in render.lines(rows):
            click.echo(line)
    return 0


@config_group.command()
@config_option
def path(config: str | None) -> int:
    """Print where the configuration file is, or would be."""
    from clinvk.config import paths

    click.echo(paths.locate(config))
    return 0


def _settings(path: str | None) -> Settings:
    from clinvk.config import settings

    return settings.load(path)
