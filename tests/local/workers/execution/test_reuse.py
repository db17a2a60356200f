"""Which results later runs may take, with a claude that changes files where it is told to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.spec import TaskResult, TaskSpec, TaskStatus
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.types import Claim, Lease
from tests.unit.git.checkouts import repository
from workers.execution.environment import Environments
from workers.execution.executor import Executor
from workers.execution.reuse.index import DirectoryIndex
from workers.execution.reuse.reuse import Reuse
from workers.execution.stop_signal import StopSignal
from workers.observers import Observers, TaskEnded

CLI = """#!/bin/sh
if [ "$1" = --version ]; then echo "2.1.0 (Claude Code)"; exit; fi
read -r prompt; echo "$prompt" >> "{log}"
if [ "$prompt" = act ]; then
    echo new > made
    echo '{tool}'
fi
echo '{result}'
"""
TOOL = {"type": "tool_use", "name": "Bash", "input": {"command": "make"}}
ACTED = {"type": "assistant", "message": {"content": [TOOL]}}
FINE = {"type": "result", "is_error": False, "result": "fine", "num_turns": 1, "session_id": "s1"}


class Worker:
    """A worker's executor; each task is one of another run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.top = repository(folder / "repo")
        self.log = folder / "log"
        cli = folder / "bin" / "claude"
        cli.parent.mkdir()
        cli.write_text(CLI.format(log=self.log, tool=json.dumps(ACTED), result=json.dumps(FINE)))
        cli.chmod(0o755)
        self.observers = Observers()
        self.runs = 0
        self.executor = self.started()

    def started(self, policy: str | None = None) -> Executor:
        config = WorkerConfig(
            sandbox="off",
            spill_dir=str(self.folder / "spill"),
            worktrees_dir=str(self.folder / "worktrees"),
            policy_file=policy,
        )

        def reuse(environments: Environments) -> Reuse:
            return Reuse(config, DirectoryIndex(self.folder / "index", 7, 1 << 20), environments)

        return Executor(config, "w@h", "w@h/1", self.observers, reuse=reuse)

    def run(self, prompt: str, earlier: bytes = b"", **fields: Any) -> TaskResult:
        self.runs += 1
        spec = TaskSpec(
            backend="claude", prompt=prompt, workdir=str(self.top), reuse=True, **fields
        )
        lease = Lease(f"{self.folder.name}-{os.getpid()}-{self.runs}", 0, 1)
        with StopSignal() as stop:
            claim = Claim("go", spec.to_wire(), earlier=earlier)
            ended = self.executor.execute(lease, claim, stop, lambda _: [])
        assert ended is not None
        self.executor.worktrees.leave(lease)
        self.observers.notify(TaskEnded(lease, ended.result))
        return ended.result

    @property
    def prompts(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return Worker(tmp_path)


def test_what_only_answers_is_taken_and_not_where_the_task_is_retried(worker: Worker) -> None:
    first, second = worker.run("say"), worker.run("say")
    assert first.reused is None
    assert second.reused == f"{worker.folder.name}-{os.getpid()}-1/0"
    assert (second.status, second.output, worker.prompts) == (TaskStatus.OK, "fine", ["say"])
    again = worker.run("say", earlier=b"claude:" + first.to_wire())
    assert (again.reused, worker.prompts) == (None, ["say", "say"])


def test_what_acted_is_taken_only_of_a_worktree_with_its_patch(worker: Worker) -> None:
    for _ in range(2):
        assert worker.run("act", workspace="worktree").status is TaskStatus.OK
    assert worker.prompts == ["act"]
    taken = worker.run("act", workspace="worktree")
    assert taken.changes is not None
    assert taken.changes.changed_files == ["made"]
    assert "+new" in (taken.changes.patch or "")
    for _ in range(2):
        worker.run("act")
        (worker.top / "made").unlink()
    assert worker.prompts == ["act", "act", "act"], "what it did to the checkout cannot be taken"


def test_a_policy_may_forbid_it(worker: Worker) -> None:
    worker.run("say")
    policy = worker.folder / "policy.yaml"
    policy.write_text("reuse: false\n")
    worker.executor = worker.started(str(policy))
    assert worker.run("say").reused is None
    assert worker.prompts == ["say", "say"]
