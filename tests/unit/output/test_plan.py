"""What `--dry-run` says of each task."""

from __future__ import annotations

from pathlib import Path

from clinvk.backends.base import UNCONFINED, Command, Confinement
from clinvk.core.spec import TaskSpec
from clinvk.output import plan


def test_the_place_of_a_prompt() -> None:
    spec = TaskSpec(backend="echo", prompt="x")
    command = Command(argv=("a",), stdin=b"")
    sources = ["t.json: tasks[3]", "t.jsonl: line 5"]
    planned = plan.plan([spec] * 2, sources, lambda _: _Backend(command))
    assert [item.source for item in planned] == [
        "t.json: tasks[3].prompt",
        "t.jsonl: line 5: prompt",
    ]


def test_what_a_restricted_task_may_follow_is_shown(tmp_path: Path) -> None:
    """The command is that of a worker without a policy, in this machine's directory."""
    (tmp_path / "link").symlink_to(tmp_path)
    seen: list[Confinement] = []
    tasks = [
        TaskSpec(backend="echo", prompt="x", workdir=str(tmp_path / "link")),
        TaskSpec(backend="echo", prompt="x", workdir="~nobody-of-this-name", sandbox_mode="full"),
        TaskSpec(backend="echo", prompt="x", sandbox_mode="read-only"),
    ]
    list(plan.plan(tasks, ["t"] * 3, lambda _: _Backend(Command(argv=(), stdin=b""), seen)))
    assert seen == [
        Confinement(directory=str(tmp_path.resolve())),
        Confinement(),
        Confinement(project_settings=False, directory=str(Path.cwd())),
    ]


class _Backend:
    can_resume = False

    def __init__(self, command: Command, seen: list[Confinement] | None = None) -> None:
        self._command = command
        self._seen = [] if seen is None else seen

    def command(self, spec: TaskSpec, confinement: Confinement = UNCONFINED) -> Command:
        self._seen.append(confinement)
        return self._command
