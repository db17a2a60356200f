"""The log of the tasks, a line as each ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clinvk.core.spec import TaskResult, TaskSpec, TaskStatus
from clinvk.output.forms import joblog
from clinvk.output.reporter import Reporter
from clinvk.runs.client import Event
from tests.unit.output.forms import presented


def made(path: Path) -> Reporter:
    specs = [TaskSpec(backend="echo", prompt="p", id=f"t{n}") for n in (1, 2)]
    form = joblog.make(presented.presentation("joblog", path, *specs))
    assert form is not None
    return form


def ended(index: int) -> Event:
    result = TaskResult(
        index=index, status=TaskStatus.OK, exit_code=0, duration_seconds=0, output=presented.HOSTILE
    )
    return Event(kind="finished", index=index, result=result)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def test_each_line_is_there_as_its_task_ends(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    form = made(path)
    assert not path.exists()
    form.saw(ended(1))
    assert [line["task_id"] for line in lines(path)] == ["t2"]
    form.saw(Event(kind="started", index=0))
    form.saw(ended(0))
    assert [line["index"] for line in lines(path)] == [1, 0]
    assert lines(path)[0]["output"] == presented.HOSTILE
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_log_of_an_earlier_run_gives_way(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("{}\n{}\n")
    made(path).saw(ended(0))
    assert len(lines(path)) == 1
