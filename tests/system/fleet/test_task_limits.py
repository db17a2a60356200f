"""Limits of memory and processes for each task, by the kernel; needs root and cgroups."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from clinvk.core.spec import ErrorKind, TaskResult, TaskSpec
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.types import Claim, Lease
from tests import escape, harness
from workers.execution.cgroups import ROOT
from workers.execution.executor import Executor
from workers.execution.stop_signal import StopSignal

MEMORY = 64 << 20
EATS = "x = bytearray(256 << 20)\nfor at in range(0, len(x), 4096): x[at] = 1\nprint('ate')"
FORKS = (
    "import subprocess\n"
    "started = [subprocess.Popen(['sleep', '600'], start_new_session=True) for _ in range(30)]"
)


def execute(
    folder: Path, command: list[str], prompt: str = "x", limits: Mapping[str, int] | None = None
) -> TaskResult:
    config = WorkerConfig(
        backends={"py": {"command": command}},
        task_limits={"*": {"processes": 100}, "py": limits or {}},
        spill_dir=str(folder / "spill"),
    )
    executor = Executor(config, "w@h", "w@h/1")
    assert executor.unenforced_limits() == []
    claim = Claim("go", TaskSpec(backend="py", prompt=prompt).to_wire(), attempts=1)
    with StopSignal() as stop:
        ended = executor.execute(Lease(folder.name, 0, 1), claim, stop, lambda _: [])
    assert ended is not None
    assert list(ROOT.rglob(f"clinvk-task-{os.getpid()}-*")) == []
    return ended.result


def py(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_memory_over_the_limit_ends_the_task_and_the_result_says_so(tmp_path: Path) -> None:
    result = execute(tmp_path, py(EATS), limits={"memory_bytes": MEMORY})
    assert result.error_kind is ErrorKind.FAILED
    assert result.error == (
        f"went over its limit (memory_bytes: {MEMORY}): ended by signal 9 without an answer"
    )
    assert execute(tmp_path, py(EATS)).output == "ate"


def test_processes_over_the_limit_fail_and_none_is_left(tmp_path: Path) -> None:
    result = execute(tmp_path, py(FORKS), limits={"processes": 10})
    assert result.error is not None
    assert result.error.startswith("went over its limit (processes: 10): BlockingIOError")


def test_a_process_that_escapes_is_in_the_tasks_group(tmp_path: Path) -> None:
    result = execute(tmp_path, list(escape.COMMAND), f"leave {tmp_path}/pid")
    assert escape.is_gone(escape.escaped(tmp_path / "pid"))
    assert result.warnings == ["py left processes running; they were stopped"]


def test_a_program_that_is_not_installed_is_told_as_without_limits(tmp_path: Path) -> None:
    result = execute(tmp_path, ["/no/such/program"])
    assert result.error_kind is ErrorKind.NOT_INSTALLED


@pytest.mark.usefixtures("temporary")
def test_the_configuration_sets_them_in_local_mode(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"worker: {{memory_bytes: {MEMORY}}}\n"
        f"backends: {{py: {{command: {[sys.executable, '-c', EATS]!r}, processes: 50}}}}\n"
    )
    task = '[{"backend": "py", "prompt": "x"}]'
    ended = harness.clinvk("parallel", "--config", str(config), "--json", "-q", stdin=task)
    assert ended.status == 1
    assert f"went over its limit (memory_bytes: {MEMORY})" in ended.stdout
