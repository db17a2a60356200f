"""Write docs/reference/commands.md from the help of the commands: `python -m tools.commands`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from clinvk.cli.main import cli

REFERENCE = Path(__file__).parents[1] / "docs" / "reference" / "commands.md"
COLUMNS = 80
HEAD = """\
# Commands

What `--help` prints for each command. `python -m tools.commands` writes this page.
"""


def main() -> None:
    """Write the page."""
    REFERENCE.write_text(reference(), encoding="utf-8")


def reference() -> str:
    """Return the page."""
    sections = (
        f"\n## {context.command_path}\n\n```text\n{context.get_help()}\n```\n"
        for context in contexts(context_of("clinvk", cli, None))
    )
    return HEAD + "".join(sections)


def contexts(context: click.Context) -> Iterator[click.Context]:
    """Yield a context for a command and all commands below it."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None and not command.hidden:
                yield from contexts(context_of(name, command, context))


def context_of(name: str, command: click.Command, parent: click.Context | None) -> click.Context:
    """Return the context in which a command's help is what its users see."""
    settings = dict(command.context_settings)
    return click.Context(command, info_name=name, parent=parent, terminal_width=COLUMNS, **settings)


if __name__ == "__main__":
    main()
