"""`clinvk conflicts`: which tasks' changes do not go together."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clinvk.commands import task_changes
from clinvk.commands.task_changes import TaskChanges
from clinvk.core import exit_codes
from clinvk.core.sanitize import one_line
from clinvk.git.user_checkout import UserCheckout
from clinvk.output import documents
from clinvk.output.streams import Output

if TYPE_CHECKING:
    from clinvk.runs.celery_client import CeleryClient

CHECKOUT = "your checkout"
MOST_SHOWN_FILES = 10


@dataclass(frozen=True, slots=True)
class Conflict:
    """The files in which the changes of two tasks do not go together."""

    one: int
    other: int
    files: Sequence[str]


def conflicts(client: CeleryClient, run_id: str, *, as_json: bool) -> int:
    """Print the pairs of tasks that do not go together, with the files; 1 if there are any.

    Each task is also tried against the checkout, with what is not committed there.
    """
    run = client.open(run_id)
    tasks = task_changes.read(run, ())
    with task_changes.here(run, tasks) as checkout:
        found = between(checkout, tasks)
        current = {
            task.number: checkout.merged(checkout.now, task.trees).conflicts for task in tasks
        }
    current = {number: files for number, files in current.items() if files}
    output = Output(sys.stdout)
    if as_json:
        output.write(documents.dump(_document(run.id, tasks, found, current)))
    else:
        output.write_all(f"{line}\n" for line in _lines(tasks, found, current))
    return exit_codes.TASK_FAILED if found or current else exit_codes.OK


def between(checkout: UserCheckout, tasks: Sequence[TaskChanges]) -> list[Conflict]:
    """Return the pairs of tasks that do not go together, found by trying to merge them.

    Raises:
        GitError: a tree cannot be read.
    """
    found = checkout.conflicts([task.trees for task in tasks])
    return [
        Conflict(tasks[one].result.index, tasks[other].result.index, files)
        for (one, other), files in found.items()
    ]


def _lines(
    tasks: Sequence[TaskChanges], found: Sequence[Conflict], current: dict[int, list[str]]
) -> Iterator[str]:
    for each in found:
        yield f"[{each.one + 1}] and [{each.other + 1}]: {shown(each.files)}"
    for number, files in current.items():
        yield f"[{number}] and {CHECKOUT}: {shown(files)}"
    if not found and not current:
        yield f"no conflicts among {len(tasks)} tasks with changes"


def shown(files: Sequence[str]) -> str:
    """Return some names of files on one line."""
    names = ", ".join(one_line(name) for name in files[:MOST_SHOWN_FILES])
    more = len(files) - MOST_SHOWN_FILES
    return f"{names} and {more} more" if more > 0 else names


def _document(
    run: str,
    tasks: Sequence[TaskChanges],
    found: Sequence[Conflict],
    current: dict[int, list[str]],
) -> dict[str, object]:
    return {
        "run_id": run,
        "tasks": [task.result.index for task in tasks],
        "conflicts": [
            {"tasks": [each.one, each.other], "files": list(each.files)} for each in found
        ],
        "with_checkout": [
            {"task": number - 1, "files": files} for number, files in current.items()
        ],
    }
