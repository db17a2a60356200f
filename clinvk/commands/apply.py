"""`clinvk apply`: take the changes of tasks into the checkout, or make a branch of each."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clinvk.commands import conflicts, task_changes
from clinvk.commands.conflicts import shown
from clinvk.commands.task_changes import TaskChanges
from clinvk.core import exit_codes
from clinvk.core.errors import UsageError
from clinvk.git import merges
from clinvk.git.runner import GitError
from clinvk.git.user_checkout import NO_COMMIT, UserCheckout
from clinvk.output.streams import Output, note

if TYPE_CHECKING:
    from clinvk.runs.celery_client import CeleryClient

START_MESSAGE = "Changes that were not committed when the task began"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyOptions:
    """The options of `clinvk apply`; `tasks` are numbers or ids."""

    tasks: Sequence[str]
    all_ok: bool
    three_way: bool
    branch: str | None
    commit: bool


@dataclass(frozen=True, slots=True)
class _Step:
    """A task's changes, on top of those before: the files' tree, and a commit if one is made."""

    task: TaskChanges
    tree: str
    commit: str | None


class _RefusedError(Exception):
    """Changes that are not applied; the message says why."""


def apply(client: CeleryClient, run_id: str, options: ApplyOptions) -> int:
    """Apply the changes of tasks, each whole or not at all; 1 if one is not applied."""
    if options.tasks and options.all_ok:
        raise UsageError("name tasks, or give --all-ok")
    if options.branch is not None and options.commit:
        raise UsageError("--branch makes commits: give it without --commit")
    run = client.open(run_id)
    tasks = task_changes.read(run, options.tasks, only_ok=options.all_ok)
    if not options.tasks and not options.all_ok and len(tasks) > 1:
        numbers = ", ".join(str(task.number) for task in tasks)
        raise UsageError(f"several tasks have changes ({numbers}): name some, or give --all-ok")
    lasting = options.branch is not None or options.commit
    with task_changes.here(run, tasks, lasting=lasting) as checkout:
        if options.branch is not None:
            return _make_branches(checkout, run.id, tasks, options.branch)
        ordered = _ordered(checkout, tasks) if options.all_ok else tasks
        return _apply(checkout, run.id, ordered, options)


def _ordered(checkout: UserCheckout, tasks: Sequence[TaskChanges]) -> list[TaskChanges]:
    """Order tasks so that those with the fewest conflicts come first."""
    counts: Counter[int] = Counter()
    for each in conflicts.between(checkout, tasks):
        counts.update((each.one, each.other))
    return sorted(tasks, key=lambda task: (counts[task.result.index], task.result.index))


def _apply(
    checkout: UserCheckout, run_id: str, tasks: Sequence[TaskChanges], options: ApplyOptions
) -> int:
    """Put changes together one after another, as far as they go together; then write them once."""
    steps: list[_Step] = []
    tree, commit = checkout.now, checkout.head
    problem = None
    for task in tasks:
        try:
            step = _next(checkout, run_id, tree, commit, task, options)
        except _RefusedError as error:
            problem = f"[{task.number}] is not applied: {error}"
            break
        steps.append(step)
        tree, commit = step.tree, step.commit or commit
    if steps:
        _write(checkout, steps)
    _tell(steps, [task for task in tasks[len(steps) :] if problem], problem)
    return exit_codes.TASK_FAILED if problem else exit_codes.OK


def _next(
    checkout: UserCheckout,
    run_id: str,
    tree: str,
    commit: str,
    task: TaskChanges,
    options: ApplyOptions,
) -> _Step:
    merged = checkout.merged(tree, task.trees, three_way=options.three_way)
    if merged.conflicts:
        hint = "" if options.three_way else " (--3way may help)"
        raise _RefusedError(f"it does not go together with {shown(merged.conflicts)}{hint}")
    effect = checkout.effect(tree, merged.tree)
    if effect.covers:
        raise _RefusedError(f"ignored files are in its way: {shown(effect.covers)}")
    if effect.deletes:
        what = "it deletes what is in no commit here: commit it, or remove it, first"
        raise _RefusedError(f"{what}: {shown(effect.deletes)}")
    if not options.commit:
        return _Step(task, merged.tree, None)
    if effect.changes:
        raise _RefusedError(f"not committed here: {shown(effect.changes)}")
    onto = checkout.merged(
        checkout.private.tree_of(commit), task.trees, three_way=options.three_way
    )
    if onto.conflicts:
        raise _RefusedError(f"it does not go together with HEAD: {shown(onto.conflicts)}")
    return _Step(task, merged.tree, _commit(checkout, onto.tree, commit, run_id, task))


def _write(checkout: UserCheckout, steps: Sequence[_Step]) -> None:
    """Write the last of the trees; what is in no commit and changes is kept, and told, first."""
    last = steps[-1]
    if changed := checkout.effect(checkout.now, last.tree).changes:
        kept = checkout.keep(checkout.now)
        note(f"not committed here, and changed: {shown(changed)}")
        note(f"as they were: git checkout {kept} -- FILE")
    checkout.write(last.tree)
    if last.commit is not None:
        checkout.move_head(last.commit)


def _tell(steps: Sequence[_Step], left: Sequence[TaskChanges], problem: str | None) -> None:
    output = Output(sys.stdout)
    for step in steps:
        where = f" as {step.commit[:12]}" if step.commit else ""
        output.write(f"[{step.task.number}] applied{where}: {step.task.title}\n")
    if problem is not None:
        note(problem)
        if others := [str(task.number) for task in left[1:]]:
            note(f"not tried: {', '.join(others)}")


def _commit(checkout: UserCheckout, tree: str, parent: str, run_id: str, task: TaskChanges) -> str:
    try:
        who = checkout.repository.identity()
    except GitError as error:
        raise UsageError(f"git does not know who commits: {error}") from error
    told = [commit.message for commit in task.changes.commits]
    body = [task.title, *told, f"clinvk-task: {run_id}/{task.number}"]
    return merges.commit(checkout.private, tree, parent, who=who, message="\n\n".join(body))


def _make_branches(
    checkout: UserCheckout, run_id: str, tasks: Sequence[TaskChanges], prefix: str
) -> int:
    """Make a branch of each task's changes, on top of what the task began with."""
    output, code = Output(sys.stdout), exit_codes.OK
    for task in tasks:
        name = f"{prefix}{task.number}"
        try:
            checkout.repository.update_ref(
                f"refs/heads/{name}", _history(checkout, run_id, task), NO_COMMIT
            )
        except GitError as error:
            note(f"[{task.number}] has no branch: {error}")
            code = exit_codes.TASK_FAILED
        else:
            output.write(f"[{task.number}] is branch {name}: {task.title}\n")
    return code


def _history(checkout: UserCheckout, run_id: str, task: TaskChanges) -> str:
    """Return the last commit of a task's own, with what it did not commit on top."""
    changes = task.changes
    last = changes.head
    if last is None:
        last = changes.base
        if checkout.private.tree_of(last) != changes.start:
            who = checkout.repository.identity()
            last = merges.commit(
                checkout.private, changes.start, last, who=who, message=START_MESSAGE
            )
    if checkout.private.tree_of(last) == changes.tree:
        return last
    return _commit(checkout, changes.tree, last, run_id, task)
