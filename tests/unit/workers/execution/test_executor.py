"""Which executions could change nothing that a new start would not find as it was."""

from __future__ import annotations

import pytest

from clinvk.core.spec import Enforcement, TaskSpec, Workspace
from workers.execution.assignment import Assignment
from workers.execution.executor import Execution, _is_contained


@pytest.mark.parametrize(
    ("mode", "by", "workspace", "contained"),
    [
        (None, "", None, False),
        ("workspace", "bwrap", None, False),
        ("read-only", "bwrap", None, True),
        ("read-only", "none", None, False),
        ("workspace", "bwrap", "shared", False),
        ("workspace", "bwrap", "worktree", True),
        (None, "", "worktree", True),
    ],
)
def test_what_is_contained(
    mode: str | None, by: str, workspace: Workspace | None, *, contained: bool
) -> None:
    spec = TaskSpec(backend="a", prompt="x", workspace=workspace)
    execution = Execution(
        assignment=Assignment(spec=spec, variant=spec, entry="a"),
        sandbox=Enforcement(mode=mode, by=by) if mode else None,
    )
    assert _is_contained(execution) is contained
