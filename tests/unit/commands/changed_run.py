"""A run whose tasks have changed files of a repository in worktrees, and the commands about it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from clinvk.core.changes import Changes
from clinvk.core.spec import ErrorKind, RunOptions, TaskResult, TaskSpec, TaskStatus
from clinvk.core.worker_config import WorkerConfig
from clinvk.runs.celery_run import CeleryRun
from clinvk.store.store import Store
from clinvk.store.types import Lease
from tests.unit.git.checkouts import git, repository
from workers.execution.directory import open_directory
from workers.execution.worktrees.worktrees import Worktrees

RUN = "20260102-030405-abcdef01"
Edit = Callable[[Path], object]


class ChangedRun:
    """A repository at `top`, and the tasks of one run on it."""

    def __init__(self, tmp_path: Path, store: Store) -> None:
        self.store = store
        lines = "".join(f"line {number}\n" for number in range(1, 31))
        self.top = repository(tmp_path / "repo", {"README": lines, "a": "a\n", "b": "b\n"})
        self._worktrees = Worktrees(WorkerConfig(worktrees_dir=str(tmp_path / "worktrees")))
        self._specs: list[TaskSpec] = []
        self._results: list[TaskResult] = []

    def task(self, edit: Edit, kind: ErrorKind | None = None, **fields: Any) -> Changes:
        """Run a task that does this in its worktree."""
        index = len(self._specs)
        given = {"prompt": f"task {index + 1}", "workspace": "worktree", **fields}
        spec = TaskSpec(backend="a", **given)
        lease = Lease(RUN, index, 1)
        with closing(open_directory(str(self.top), None)) as directory:
            worktree = self._worktrees.enter(spec, directory, lease, str, resumes=False)
        edit(Path(worktree.about.top))
        changes = self._worktrees.changes(worktree)
        worktree.place.remove()
        self._specs.append(spec)
        status = TaskStatus.OK if kind is None else TaskStatus.FAILED
        self._results.append(
            TaskResult(
                index=index,
                status=status,
                exit_code=0,
                duration_seconds=1,
                error_kind=kind,
                changes=changes,
            )
        )
        return changes

    def record(self) -> None:
        """Record the run."""
        self.store.announce("w", {"slots": 99, "queues": ["clinvk.a"]})
        self.store.submit(RUN, self._specs, RunOptions(max_parallel=99))
        for result in self._results:
            lease = Lease(RUN, result.index, 1)
            self.store.claim(lease, "w/1", str(result.index))
            assert self.store.finish(lease, result).ok

    reaching_broker = staticmethod(nullcontext)

    def open(self, run: str) -> CeleryRun:
        """Give the run, as a client does."""
        assert run == RUN
        return CeleryRun(RUN, len(self._specs), self)  # type: ignore[arg-type]

    @contextmanager
    def has_run(self, *_: object) -> Iterator[ChangedRun]:
        """Stand for `reach.has_run`."""
        yield self

    def status(self) -> list[str]:
        """What git says of the checkout."""
        done = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=all"],
            cwd=self.top,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.splitlines()

    def git(self, *arguments: str) -> str:
        """Run git in the checkout."""
        return git(self.top, *arguments)

    def text(self, name: str) -> str:
        """Read a file of the checkout."""
        return (self.top / name).read_text()


def line(number: int, words: str) -> Edit:
    """Change a line of the README."""

    def edit(top: Path) -> None:
        lines = (top / "README").read_text().splitlines()
        lines[number - 1] = words
        (top / "README").write_text("\n".join(lines) + "\n")

    return edit


def write(name: str, text: str) -> Edit:
    """Write a file."""
    return lambda top: (top / name).write_text(text)


def commit(edit: Edit, message: str) -> Edit:
    """Do something, and commit it."""

    def act(top: Path) -> None:
        edit(top)
        git(top, "add", "--all")
        git(top, "commit", "--quiet", "--message", message)

    return act


def delete(name: str) -> Edit:
    """Delete a file."""

    def act(top: Path) -> None:
        (top / name).unlink()

    return act


def folder(name: str) -> Edit:
    """Make a directory."""

    def act(top: Path) -> None:
        (top / name).mkdir()

    return act


def each(*edits: Edit) -> Edit:
    """Do one after another."""

    def act(top: Path) -> None:
        for edit in edits:
            edit(top)

    return act
