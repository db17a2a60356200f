"""The names of the files in `output_dir`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from clinvk.core.spec import RunOptions, TaskResult, TaskSpec, TaskStatus
from clinvk.output.forms import output_dir
from clinvk.output.kinds import formatter_of
from clinvk.output.reporter import FileReporter, Presentation, View
from clinvk.output.streams import Output, Streams
from clinvk.runs.client import Event


def made(directory: Path, specs: list[TaskSpec]) -> FileReporter:
    presentation = Presentation(
        view=View(paths={"output_dir": str(directory)}),
        formatter=formatter_of("parallel"),
        specs=specs,
        options=RunOptions(),
        streams=Streams(Output(io.StringIO())),
        width=80,
    )
    found = output_dir.make(presentation)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ({}, "001_echo.json"),
        ({"name": "n"}, "001_n.json"),
        ({"name": "n", "id": "i"}, "001_i.json"),
        ({"name": ""}, "001_echo.json"),
        ({"id": "../../etc/passwd"}, "001_.._.._etc_passwd.json"),
        ({"id": "a b\n\0c"}, "001_a_b_c.json"),
        ({"id": "漢字"}, "001_漢字.json"),
        ({"id": "x" * 300}, f"001_{'x' * 120}.json"),
        ({"id": "漢" * 300}, f"001_{'漢' * 40}.json"),
        ({"id": "\U00020000" * 300}, f"001_{chr(0x20000) * 30}.json"),
    ],
)
def test_names(tmp_path: Path, task: dict[str, str], name: str) -> None:
    directory = tmp_path / "o"
    spec = TaskSpec(backend="echo", prompt="p", **task)  # type: ignore[arg-type]
    result = TaskResult(index=0, status=TaskStatus.OK, exit_code=0, duration_seconds=0, output="a")
    made(directory, [spec]).saw(Event(kind="finished", index=0, result=result))
    (written,) = directory.iterdir()
    assert written.name == name
    assert written.stat().st_mode & 0o777 == 0o600
    assert json.loads(written.read_text())["result"]["output"] == "a"


def test_numbers_are_as_wide_as_the_last_one(tmp_path: Path) -> None:
    spec = TaskSpec(backend="echo", prompt="p")
    files = made(tmp_path, [spec] * 1000)
    result = TaskResult(index=9, status=TaskStatus.OK, exit_code=0, duration_seconds=0)
    files.saw(Event(kind="finished", index=9, result=result))
    assert [path.name for path in tmp_path.iterdir()] == ["0010_echo.json"]
