"""What a shell completes beside options and commands: runs, queues, backends.

A shell asks by running clinvk, and a person waits for the answer: whatever goes wrong, or takes
long, completes nothing.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def runs(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete the id of a run: of a local one that goes on, or of the newest of the fleet."""
    from clinvk.commands import completion

    return _items(completion.runs(*_where(context)), begun)


def queues(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete the name of a queue of the fleet."""
    from clinvk.commands import completion

    return _items(completion.queues(*_where(context)), begun)


def backends(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete the name of a backend, the last one of a list with commas."""
    from clinvk.commands import completion

    before, comma, last = begun.rpartition(",")
    found = completion.backends(_where(context)[0])
    return _items({f"{before}{comma}{name}": "" for name in found if name.startswith(last)}, begun)


def _items(found: dict[str, str], begun: str) -> list[CompletionItem]:
    return [
        CompletionItem(value, help=about or None)
        for value, about in found.items()
        if value.startswith(begun)
    ]


def _where(context: click.Context) -> tuple[str | None, str | None]:
    """Return the configuration and the broker that the command line names."""
    return context.params.get("config"), context.params.get("broker")
