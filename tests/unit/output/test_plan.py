"""What `--dry-run` says of each task."""

from __future__ import annotations

from clinvk.backends.base import UNCONFINED, Command, Confinement
from clinvk.core.spec import TaskSpec
from clinvk.output import plan


def test_the_place_of_a_prompt() -> None:
    spec = TaskSpec(backend="echo", prompt="x")
    command = Command(argv=("a",), stdin=b"")
    sources = ["t.json: tasks[3]", "t.jsonl: line 5"]
    planned = plan.plan([spec] * 2, sources, lambda _: _Backend(command))
    assert [source for _, source, _ in planned] == [
        "t.json: tasks[3].prompt",
        "t.jsonl: line 5: prompt",
    ]


class _Backend:
    def __init__(self, command: Command) -> None:
        self._command = command

    def command(self, spec: TaskSpec, confinement: Confinement = UNCONFINED) -> Command:
        return self._command
