"""The terminal's title and progress."""

from __future__ import annotations

import io

import pytest

from clinvk.core.spec import ErrorKind, TaskResult, TaskStatus
from clinvk.output.forms import terminal_status as form
from clinvk.output.streams import Output, Streams
from clinvk.runs.client import Event


def ended(*, ok: bool) -> Event:
    status = TaskStatus.OK if ok else TaskStatus.FAILED
    kind = None if ok else ErrorKind.FAILED
    result = TaskResult(index=0, status=status, exit_code=0, duration_seconds=0, error_kind=kind)
    return Event(kind="finished", index=0, result=result)


def test_what_a_terminal_gets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "UPDATE_SECONDS", 0)
    status = form.TerminalStatus(Streams(Output(io.StringIO())), 3, with_progress=True)
    status.begin()
    status.saw(Event(kind="started", index=0))
    status.saw(ended(ok=True))
    status.saw(ended(ok=False))
    status.stop()
    assert capsys.readouterr().err.split("\x07") == [
        "\x1b[22;0t\x1b]2;clinvk 0/3",
        "\x1b]9;4;1;0",
        "\x1b]2;clinvk 1/3",
        "\x1b]9;4;1;33",
        "\x1b]2;clinvk 2/3",
        "\x1b]9;4;2;66",
        "\x1b[23;0t\x1b]9;4;0;",
        "",
    ]


def test_many_ends_are_few_updates(capsys: pytest.CaptureFixture[str]) -> None:
    status = form.TerminalStatus(Streams(Output(io.StringIO())), 1000, with_progress=False)
    status.begin()
    for _ in range(100):
        status.saw(ended(ok=True))
    assert capsys.readouterr().err == "\x1b[22;0t\x1b]2;clinvk 0/1000\x07"


@pytest.mark.parametrize(
    ("environment", "shows"),
    [
        ({}, False),
        ({"TERM_PROGRAM": "Apple_Terminal"}, False),
        ({"TERM_PROGRAM": "ghostty"}, True),
        ({"WT_SESSION": "x"}, True),
        ({"ConEmuANSI": "OFF"}, False),
        ({"ConEmuANSI": "ON"}, True),
    ],
)
def test_which_terminals_show_progress(environment: dict[str, str], *, shows: bool) -> None:
    assert form.shows_progress(environment) is shows
