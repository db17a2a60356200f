"""The command line: parse, one call, print, exit.

Nothing heavy is imported at the top: `--help` and complaints about the command line need
neither Celery nor pydantic.
"""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clinvk import __version__
from workers.errors import BrokerError, ClinvkError, ConfigError, UsageError

if TYPE_CHECKING:
    from clinvk.settings import Settings

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
    sys.exit(code)


def open_standard_streams() -> None:
    """Make sure of stdin, stdout and stderr, whatever the caller closed; print UTF-8.

    A closed one would give its number to the next file or socket that is opened.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  (stays open)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # JSON is UTF-8 in every locale; half of a surrogate pair is no reason to stop.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def complain(error: ClinvkError) -> None:
    """Print what is wrong, one line for each problem."""
    from clinvk.render.safe import one_line

    for problem in getattr(error, "problems", (f"clinvk: {error}",)):
        click.echo(one_line(problem), err=True)  # it may quote a name from a task file


def exit_code(error: ClinvkError) -> int:
    """Return the exit code of an error."""
    from clinvk import report

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


config_option = click.option("--config", metavar="FILE", help="Use this configuration file.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelOptions:
    """The command line of `clinvk parallel`; None is what was not given."""

    file: str | None
    max_parallel: int | None
    fail_fast: bool | None
    output_dir: str | None
    broker: str | None
    as_json: bool
    quiet: bool
    dry_run: bool


@cli.command()
@click.option("-f", "--file", metavar="FILE", help="Task file; standard input without it.")
@click.option("--max-parallel", type=click.IntRange(min=1), metavar="N", help="Tasks at once.")
@click.option(
    "--fail-fast/--no-fail-fast", default=None, help="Stop everything at the first failure."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print the totals only.")
@click.option("--output-dir", metavar="DIR", help="Write a file per task, and a summary.")
@click.option("--dry-run", is_flag=True, help="Print the commands; start nothing.")
@click.option("--broker", metavar="URL", help="Use the fleet behind this Redis.")
@config_option
def parallel(config: str | None, **options: Any) -> int:
    """Run the tasks of a file at once, with ordered results.

    Exit codes: 0 every task ok, 1 a task failed, was canceled or lost, 2 bad usage or task
    file, 3 bad configuration, 4 the broker cannot be reached, 130 interrupted.
    """
    from clinvk import parallel, settings

    return parallel.run(settings.load(config), ParallelOptions(**options))


@cli.group("config")
def config_group() -> None:
    """Show the configuration."""


@config_group.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@config_option
def show(config: str | None, as_json: bool) -> int:
    """Print every setting, its effective value and where that comes from."""
    from clinvk.render import config as render
    from clinvk.render.document import dump

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
    from clinvk import settings

    click.echo(settings.locate(config))
    return 0


def _settings(path: str | None) -> Settings:
    from clinvk import settings

    return settings.load(path)
