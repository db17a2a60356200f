"""The changes of a run's tasks, as `diff`, `apply` and `conflicts` read them."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clinvk.commands.logs import find_task
from clinvk.core.changes import Changes, Part
from clinvk.core.errors import UsageError
from clinvk.core.sanitize import one_line
from clinvk.core.spec import TaskResult, TaskSpec, TaskStatus
from clinvk.git import user_checkout
from clinvk.git.runner import GitError
from clinvk.git.user_checkout import Trees, UserCheckout

if TYPE_CHECKING:
    from clinvk.runs.celery_run import CeleryRun

LONGEST_TITLE = 60


@dataclass(frozen=True, slots=True)
class TaskChanges:
    """A task that has ended, and what it changed."""

    spec: TaskSpec
    result: TaskResult
    changes: Changes

    @property
    def number(self) -> int:
        """The task's number, as it is shown."""
        return self.result.index + 1

    @property
    def title(self) -> str:
        """What the task was, on one line."""
        words = one_line(self.spec.name or self.spec.id or self.spec.prompt)
        return words if len(words) <= LONGEST_TITLE else f"{words[: LONGEST_TITLE - 1]}…"

    @property
    def trees(self) -> Trees:
        """What it changed, in one."""
        return Trees(start=self.changes.start, end=self.changes.tree)


def read(run: CeleryRun, names: Sequence[str], *, only_ok: bool = False) -> list[TaskChanges]:
    """Return the tasks that have changes: those that are named, or all, in task order.

    Raises:
        UsageError: one that is named has none, or none has any.
    """
    wanted = [find_task(run, name) for name in names]
    indexes = wanted or range(run.total)
    specs = run.specs()
    found = [
        TaskChanges(specs[index], result, result.changes)
        for index, result in zip(indexes, run.read_results(list(indexes)), strict=True)
        if result is not None and result.changes is not None and result.changes.any
        if not only_ok or result.status is TaskStatus.OK
    ]
    missing = set(wanted) - {each.result.index for each in found}
    for index in sorted(missing):
        raise UsageError(f"task {index + 1} of run {run.id} has no changes: {_why(run, index)}")
    if not found:
        raise UsageError(f"run {run.id} has no changes: {NO_WORKTREES}")
    return found


NO_WORKTREES = "tasks with workspace: worktree have some, once they have ended"


def _why(run: CeleryRun, index: int) -> str:
    (result,) = run.read_results([index])
    if result is None:
        return "it has not ended"
    return NO_WORKTREES if result.changes is None else "it changed nothing"


def part(run: CeleryRun, task: TaskChanges, name: Part) -> bytes:
    """Return a large part of a task's changes.

    Raises:
        UsageError: it is no longer there.
    """
    with run.client.reaching_broker():
        changes = run.client.store.load_part(run.id, task.changes, name)
    text = changes.patch if name == "patch" else changes.pack
    if text is None:
        raise UsageError(f"the changes of task {task.number} of run {run.id} are no longer there")
    return text.encode("utf-8", "surrogateescape") if name == "patch" else _decoded(text, task)


def _decoded(text: str, task: TaskChanges) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise UsageError(f"the changes of task {task.number} are damaged") from error


@contextlib.contextmanager
def here(
    run: CeleryRun, tasks: Sequence[TaskChanges], *, lasting: bool = False
) -> Iterator[UserCheckout]:
    """Give the checkout around the current directory; it knows these tasks' changes.

    Raises:
        UsageError: that is another repository, or none.
    """
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(user_checkout.at(os.getcwd(), lasting=lasting))  # noqa: PTH109
            for task in tasks:
                found.take(part(run, task, "pack"), task.changes.base, task.trees)
        except GitError as error:
            raise UsageError(str(error)) from error
        yield found
