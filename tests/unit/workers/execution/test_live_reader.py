"""The reader of a backend is fed while the command writes, and may have bugs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

import pytest

from clinvk.backends.base import Captured, OutputReader, ParsedOutput, ProcessResult
from clinvk.core.error_log import ErrorLog
from clinvk.core.steps import Step, StepKind
from tests.unit.backends.commands import REGISTRY
from workers.execution import live_reader
from workers.execution.live_reader import LiveReader


@pytest.fixture(autouse=True)
def _fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_reader, "_errors", ErrorLog(live_reader.logger))


class Words(OutputReader):
    """Makes each line a message; `bug` is one that it cannot take."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.times: list[datetime] = []

    def read(self, line: str, at: datetime) -> Iterable[Step]:
        self.times.append(at)
        if line == "bug":
            raise KeyError("no such event")
        self.lines.append(line)
        return self._steps(line)

    def _steps(self, line: str) -> Iterator[Step]:
        if line == "late bug":
            raise ValueError("while its steps are taken")
        yield Step(kind=StepKind.MESSAGE, text=line)

    def finish(self, process: ProcessResult) -> ParsedOutput:
        return ParsedOutput(output=" ".join(self.lines))


class Silent(OutputReader):
    def finish(self, process: ProcessResult) -> ParsedOutput:
        return ParsedOutput(output="done")


FINISHED = ProcessResult(
    returncode=0, stdout=Captured(), stderr=Captured(), ended_at=datetime.now().astimezone()
)


def test_steps_come_with_their_lines_as_the_output_does() -> None:
    seen: list[tuple[str, list[str]]] = []
    reader = LiveReader("b", words := Words(), lambda line, s: seen.append((line, [*map(str, s)])))
    reader.take(b"one\ntw")
    assert [line for line, _ in seen] == ["one"]
    reader.take(b"o\nthree")
    assert [line for line, _ in seen] == ["one", "two"]
    assert reader.finish(FINISHED) == ParsedOutput(output="one two three")
    assert [line for line, _ in seen] == ["one", "two", "three"]
    assert all(len(steps) == 1 for _, steps in seen)
    assert all(at.tzinfo is not None for at in words.times)


def test_a_reader_that_raises_costs_its_line_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[str] = []
    reader = LiveReader("b", Words(), lambda line, _: seen.append(line))
    with caplog.at_level(logging.ERROR):
        reader.take(b"one\nbug\nbug\ntwo\nlate bug\n")
    assert seen == ["one", "two"]
    parsed = reader.finish(FINISHED)
    assert parsed.error_kind is None
    assert parsed.warnings == ("clinvk could not read 3 lines of the output of b",)
    assert [record.getMessage() for record in caplog.records] == [
        "reading the output of b: KeyError: 'no such event'",
        "reading the output of b: ValueError: while its steps are taken",
    ]


def test_a_reader_without_lines_is_given_none() -> None:
    assert LiveReader("b", Words(), print).wants_output
    reader = LiveReader("b", Silent(), print)
    assert not reader.wants_output
    assert reader.finish(FINISHED) == ParsedOutput(output="done")


class Acting(OutputReader):
    def __init__(self, acted: bool) -> None:
        self.acted = acted

    def read(self, line: str, at: datetime) -> Iterable[Step]:
        if line == "bug":
            raise ValueError
        return ()

    def finish(self, process: ProcessResult) -> ParsedOutput:
        return ParsedOutput(acted=self.acted)


@pytest.mark.parametrize(
    ("output", "size", "acted", "expected"),
    [
        (b"all\n", 4, False, False),
        (b"some\n", 500, False, None),
        (b"some\n", 500, True, True),
        (b"bug\n", 4, False, None),
        (b"bug\n", 4, True, True),
    ],
)
def test_what_was_not_read_may_tell_that_the_cli_acted(
    output: bytes, size: int, acted: bool, expected: bool | None
) -> None:
    reader = LiveReader("b", Acting(acted), lambda *_: None)
    reader.take(output)
    process = replace(FINISHED, stdout=Captured(size=size))
    assert reader.finish(process).acted is expected


def test_times_are_in_the_zone_of_the_command() -> None:
    reader = LiveReader("b", words := Words(), lambda *_: None, "Asia/Kolkata")
    reader.take(b"one\n")
    assert [str(at.tzinfo) for at in words.times] == ["Asia/Kolkata"]


def test_the_session_is_told_once_as_soon_as_it_is_named() -> None:
    told: list[str] = []
    backend = REGISTRY.get("codex")
    reader = LiveReader("codex", backend.reader(), lambda *_: None, on_session=told.append)
    reader.take(b'{"type":"turn.started"}\n')
    assert told == []
    reader.take(b'{"type":"thread.started","thread_id":"some-session"}\n{"type":"x"}\n')
    reader.take(b'{"type":"x"}\n')
    assert told == ["some-session"]
