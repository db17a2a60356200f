"""Options and arguments that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from clinvk.cli import completion
from clinvk.output.forms import FORMS

broker_option = click.option(
    "--broker", metavar="URL", help="Use the workers behind this Redis server."
)
config_option = click.option("--config", metavar="FILE", help="Read this configuration file.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print only the totals.")
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Print each step of each agent on standard error."
)

run_argument = click.argument("run", metavar="RUN", shell_complete=completion.runs)
"""A run's id, or `last`, the newest run of this user."""

_OPTIONS_OF_OUTPUT = (
    json_option,
    quiet_option,
    verbose_option,
    *(
        click.option(f"--{form.name.replace('_', '-')}", metavar=form.metavar, help=form.help)
        for form in FORMS
        if form.has_option
    ),
    click.option(
        "--no-step-summary",
        is_flag=True,
        help="Write no summary and no annotations in a job of GitHub Actions.",
    ),
)

_OPTIONS_OF_BUDGETS = (
    click.option(
        "--max-cost",
        metavar="USD",
        help="Start nothing that would take the cost of the run over this.",
    ),
    click.option(
        "--max-tokens-total",
        metavar="N",
        help="Start nothing that would take the tokens of the run over this: 500k, 2M.",
    ),
    click.option(
        "--allow-unknown-cost",
        is_flag=True,
        help="With a budget, count what nobody can price as an estimate.",
    ),
)

_OPTIONS_OF_RUNS = (
    *_OPTIONS_OF_OUTPUT,
    click.option("--dry-run", is_flag=True, help="Print the commands without running them."),
    click.option(
        "--estimate",
        is_flag=True,
        help="With --dry-run: say what such tasks have used before.",
    ),
    click.option("--detach", is_flag=True, help="Submit the run, print its id, and exit."),
    click.option(
        "--run-key",
        metavar="KEY",
        help="Submit once: a later submission with this key follows the same run.",
    ),
    click.option(
        "--priority",
        type=int,
        default=0,
        metavar="N",
        help="Run before lower-priority runs.",
        show_default=True,
    ),
    click.option(
        "--max-wait",
        metavar="TIME",
        help="Let limits hold up a task for so long: 90, 15m, 6h, 7d, none, or 0 to fail at once.",
    ),
    *_OPTIONS_OF_BUDGETS,
    click.option(
        "--reuse/--no-reuse",
        default=None,
        help="Take the results of earlier runs with --reuse where nothing has changed.",
    ),
    click.option(
        "--wait-for-workers", is_flag=True, help="Submit even if no worker serves a backend yet."
    ),
    broker_option,
    config_option,
)


def options_of_output(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options of what is printed and written of a run."""
    for option in reversed(_OPTIONS_OF_OUTPUT):
        function = option(function)
    return function


def options_of_budgets(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options of what a run may use."""
    for option in reversed(_OPTIONS_OF_BUDGETS):
        function = option(function)
    return function


def options_of_runs(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options of every command that submits a run."""
    for option in reversed(_OPTIONS_OF_RUNS):
        function = option(function)
    return function


def take_paths(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with those of output forms as one, `paths`: what was given, by form."""
    given = {form.name: options.pop(form.name) for form in FORMS if form.has_option}
    if not options.pop("no_step_summary"):
        given["step_summary"] = os.environ.get("GITHUB_STEP_SUMMARY") or None
    return options | {"paths": {name: path for name, path in given.items() if path is not None}}


def fleet_command(name: str) -> Callable[[Callable[..., int]], click.Command]:
    """Make a command whose function gets a client of the configured fleet as its first argument."""

    def decorate(function: Callable[..., int]) -> click.Command:
        def run(broker: str | None, config: str | None, **arguments: Any) -> int:
            from clinvk.commands import fleet
            from clinvk.config import settings

            with fleet.fleet(settings.load(config), broker) as client:
                return function(client, **arguments)

        own = click.command()(function)
        common = click.command()(broker_option(config_option(run)))
        return click.Command(name, callback=run, params=own.params + common.params, help=own.help)

    return decorate


def run_command(name: str) -> Callable[[Callable[..., int]], click.Command]:
    """Make a command about one RUN, its first argument.

    Its function gets a client of whatever keeps that run, and its name (see `reach.has_run`).
    """

    def decorate(function: Callable[..., int]) -> click.Command:
        def call(broker: str | None, config: str | None, run: str, **arguments: Any) -> int:
            from clinvk.config import settings
            from clinvk.local import reach

            with reach.has_run(settings.load(config), broker, run) as client:
                return function(client, run, **arguments)

        own = click.command()(run_argument(function))
        common = click.command()(broker_option(config_option(call)))
        return click.Command(name, callback=call, params=own.params + common.params, help=own.help)

    return decorate
