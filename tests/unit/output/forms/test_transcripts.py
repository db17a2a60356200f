"""What each CLI wrote, line by line, in `output_dir`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.spec import RunOptions, StepDetail, TaskResult, TaskSpec, TaskStatus
from clinvk.core.steps import StepKind, StepRecord
from clinvk.output.forms import transcripts
from clinvk.output.kinds import formatter_of
from clinvk.output.reporter import Presentation, View
from clinvk.output.streams import Output, Streams
from clinvk.runs.client import Event


def made(directory: Path | None, detail: StepDetail = "full") -> transcripts.Transcripts | None:
    return transcripts.make(
        Presentation(
            view=View(paths={"output_dir": str(directory)} if directory else {}),
            formatter=formatter_of("parallel"),
            specs=[TaskSpec(backend="echo", prompt="p", id=f"t{n}", steps=detail) for n in (1, 2)],
            options=RunOptions(),
            streams=Streams(Output(io.StringIO())),
            width=80,
        )
    )


@pytest.fixture
def form(tmp_path: Path) -> transcripts.Transcripts:
    found = made(tmp_path)
    assert found is not None
    return found


def event(number: int, raw: str | None, index: int = 0, **more: Any) -> Event:
    fields: dict[str, Any] = {"attempt": 1, "kind": StepKind.EVENT} | more
    step = StepRecord(index=index, time="", number=number, raw=raw, **fields)
    return Event(kind="step", index=index, step=step)


def ended(index: int = 0) -> Event:
    result = TaskResult(index=index, status=TaskStatus.OK, exit_code=0, duration_seconds=0)
    return Event(kind="finished", index=index, result=result)


def text(directory: Path, name: str = "001_t1") -> str:
    return (directory / f"{name}.transcript.jsonl").read_text()


def test_it_is_made_for_full_steps_and_a_directory(tmp_path: Path) -> None:
    assert made(None) is None
    assert made(tmp_path, "summary") is None
    assert made(tmp_path, "off") is None
    form = made(tmp_path)
    assert form is not None
    assert form.steps_wanted == "all"


def test_each_line_is_there_as_it_comes(form: transcripts.Transcripts, tmp_path: Path) -> None:
    assert list(tmp_path.iterdir()) == []
    form.saw(event(1, '{"a": "é\u2028"}'))
    assert text(tmp_path) == '{"a": "é\u2028"}\n'
    form.saw(event(2, None))
    form.saw(event(1, "other", index=1))
    form.saw(event(3, "no\r\nJSON"))
    assert text(tmp_path) == '{"a": "é\u2028"}\nno  JSON\n'
    assert text(tmp_path, "002_t2") == "other\n"
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_missing_and_a_new_attempt_have_lines(
    form: transcripts.Transcripts, tmp_path: Path
) -> None:
    form.saw(event(4, "a"))
    form.saw(event(5, "b"))
    form.saw(event(8, "c", attempt=2))
    form.saw(event(9, "d", attempt=2))
    lines = text(tmp_path).splitlines()
    assert [line if len(line) == 1 else json.loads(line) for line in lines] == [
        {"clinvk": {"dropped_steps": 3}},
        *("a", "b"),
        {"clinvk": {"dropped_steps": 2}},
        {"clinvk": {"attempt": 2}},
        *("c", "d"),
    ]


def test_a_line_after_the_end_of_its_task_is_written_too(
    form: transcripts.Transcripts, tmp_path: Path
) -> None:
    form.saw(event(1, "a"))
    form.saw(ended())
    form.saw(event(2, "b"))
    assert text(tmp_path) == "a\nb\n"


def test_an_earlier_file_and_a_link_are_replaced(
    form: transcripts.Transcripts, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "001_t1.transcript.jsonl").symlink_to(victim)
    (tmp_path / "002_t2.transcript.jsonl").write_text("of an earlier run\n")
    form.saw(event(1, "a"))
    form.saw(event(1, "b", index=1))
    assert (victim.read_text(), text(tmp_path), text(tmp_path, "002_t2")) == ("mine", "a\n", "b\n")


def test_a_link_that_takes_the_place_of_a_transcript_is_not_followed(
    form: transcripts.Transcripts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    form.saw(event(1, "a"))
    (tmp_path / "001_t1.transcript.jsonl").unlink()
    (tmp_path / "001_t1.transcript.jsonl").symlink_to(victim)
    form.saw(event(2, "b"))
    assert victim.read_text() == "mine"
    assert form.has_failed
    assert "output_dir: cannot write to" in capsys.readouterr().err


def test_a_lone_surrogate_costs_nothing(form: transcripts.Transcripts, tmp_path: Path) -> None:
    form.saw(event(1, "\ud800"))
    assert text(tmp_path) == "\\ud800\n"
