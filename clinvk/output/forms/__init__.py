"""The forms of output: one file each, and one line here.

A form's module has `make(presentation)`, which returns its `Reporter`, or None where the user did
not ask for the form. Forms that write files have an option of the commands that submit runs; its
value is `presentation.view.paths[name]`.

This module is imported to build the command line, so it imports no form before one is needed.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clinvk.output.reporter import Presentation, Reporter


@dataclass(frozen=True, slots=True)
class Form:
    """A form of output: the name of its module, and of its option with `_` as `-`.

    One that writes files is wanted where `View.paths` has a path for it: under its option's name,
    or under `path` if it has no option.
    """

    name: str
    metavar: str = ""
    help: str = ""
    path: str = ""

    @property
    def has_option(self) -> bool:
        """Whether an option takes the path of what it writes."""
        return bool(self.metavar)

    def make(self, presentation: Presentation) -> Reporter | None:
        """Make the form's reporter; None where it is not wanted.

        A form that writes files is not even imported, then: what it needs takes time to load.

        Raises:
            UsageError: the form cannot write to its path.
        """
        place = self.path or (self.name if self.has_option else "")
        view = presentation.view
        if view.is_silent if not place else not view.paths.get(place):
            return None
        module = importlib.import_module(f"{__name__}.{self.name}")
        reporter: Reporter | None = module.make(presentation)
        return reporter


FORMS = (
    Form("output_dir", "DIR", "Write one file per task, and a summary, to this directory."),
    Form("transcripts", path="output_dir"),
    Form("joblog", "FILE", "Append a JSON line to this file for each task as it ends."),
    Form("junit", "FILE", "Write a JUnit report of the run to this file."),
    Form("report", "FILE", "Write the run as an HTML page to this file."),
    Form("csv", "FILE", "Write a table of the results to this file."),
    Form("step_summary", path="step_summary"),
    Form("steps"),
    Form("text"),
    Form("json_document"),
    Form("quiet"),
    Form("live"),
    Form("waits"),
    Form("terminal_status"),
    Form("plain"),
)
"""In the order in which they see events: a file is there when its task's line is printed, and that
line is printed before the display is drawn again."""


def reporters(presentation: Presentation) -> list[Reporter]:
    """Make the reporters of all forms that the user asked for."""
    made = (form.make(presentation) for form in FORMS)
    return [reporter for reporter in made if reporter is not None]
