"""From a task's spec to what may be started."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from clinvk.core.spec import TaskSpec
from clinvk.core.worker_config import WorkerConfig
from workers.execution.directory import Directory
from workers.execution.policy import Policy
from workers.execution.preparation import Preparation


def test_a_backend_is_told_the_directory_that_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that is exchanged just then would have another directory marked as untrusted."""
    for name in ("shown", "meant"):
        (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to("shown")
    opened = Policy.open

    def exchange_first(policy: Policy, path: str | None) -> Directory:
        link.unlink()
        link.symlink_to("meant")
        return opened(policy, path)

    monkeypatch.setattr(Policy, "open", exchange_first)
    preparation = Preparation(WorkerConfig(sandbox="off"), "w@h")
    spec = TaskSpec(backend="codex", prompt="x", sandbox_mode="read-only", workdir=str(link))
    with closing(preparation.prepare(spec, lambda _: [])) as task:
        assert os.path.realpath(task.directory.start_path) == str(tmp_path / "meant")
        assert f'"{tmp_path}/meant"={{trust_level="untrusted"}}' in " ".join(task.command.argv)
