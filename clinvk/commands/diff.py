"""`clinvk diff`: what the tasks of a run changed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from clinvk.commands import task_changes
from clinvk.commands.task_changes import TaskChanges
from clinvk.core import exit_codes
from clinvk.core.sanitize import multi_line, one_line
from clinvk.git import patches
from clinvk.output.streams import Output

if TYPE_CHECKING:
    from clinvk.runs.celery_client import CeleryClient


def diff(client: CeleryClient, run_id: str, names: Sequence[str], *, stat: bool) -> int:
    """Print the patches of tasks, each below a line that names its task; or their files."""
    run = client.open(run_id)
    output = Output(sys.stdout, is_quiet=True)
    for task in task_changes.read(run, names):
        patch = task_changes.part(run, task, "patch") if task.changes.patch_bytes else b""
        heading = f"{_heading(task)}\n"
        if stat:
            output.write(heading)
            output.write_all(f"{line}\n" for line in _lines(patch))
        elif output.is_terminal:
            output.write(heading + multi_line(patch.decode("utf-8", "replace")))
        else:
            output.write_bytes(heading.encode() + patch)
        if output.broken:
            break
    return exit_codes.OK


def _heading(task: TaskChanges) -> str:
    changes = task.changes
    files = f"{changes.files} file{'' if changes.files == 1 else 's'}"
    commits = len(changes.commits)
    more = f", {commits} commit{'' if commits == 1 else 's'}" if commits else ""
    counts = f"+{changes.insertions} -{changes.deletions}"
    return f"[{task.number}] {task.title}: {files}, {counts}{more}"


def _lines(patch: bytes) -> Iterator[str]:
    found = patches.counted(patch)
    width = max((len(one_line(each.path)) for each in found), default=0)
    for each in found:
        is_text = each.insertions is not None
        counts = f"+{each.insertions} -{each.deletions}" if is_text else "binary"
        yield f"  {one_line(each.path):{width}} | {counts}"
