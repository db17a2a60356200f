"""The entry point: run one command and exit with its code."""

from __future__ import annotations

import os
import sys

import click

from clinvk.cli import acl, config, costs, doctor, fleet, runs, submit
from clinvk.cli.streams import flush_standard_streams, open_standard_streams
from clinvk.core import exit_codes
from clinvk.core.errors import ClinvkError
from clinvk.core.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="clinvk")
def cli() -> None:
    """Run many prompts through AI coding CLIs at once, and get ordered results back."""


for _command in (
    *submit.COMMANDS,
    *fleet.COMMANDS,
    *runs.COMMANDS,
    *costs.COMMANDS,
    *acl.COMMANDS,
    *config.COMMANDS,
    *doctor.COMMANDS,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line and exit with its code; no error prints a traceback."""
    open_standard_streams()
    code = _run()
    flush_standard_streams()
    sys.exit(code)


def _run() -> int:
    try:
        code: int = cli(prog_name="clinvk", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:  # Ctrl-C outside of a run
        return exit_codes.INTERRUPTED
    except ClinvkError as error:
        _print_problems(error)
        return error.exit_code
    except Exception as error:
        if os.environ.get("CLINVK_DEBUG"):
            raise
        message = f"clinvk: unexpected {type(error).__name__}: {error}"
        click.echo(f"{message} (set CLINVK_DEBUG=1 for the traceback)", err=True)
        return exit_codes.TASK_FAILED
    return code


def _print_problems(error: ClinvkError) -> None:
    from clinvk.core.sanitize import one_line

    for problem in error.problems:
        click.echo(one_line(problem), err=True)  # it may quote a name from a task file
