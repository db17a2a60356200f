"""What is written while a display is drawn is held back, and written in its order."""

from __future__ import annotations

import io
import json
import sys

import pytest

from clinvk.core.sanitize import one_line
from clinvk.output import documents
from clinvk.output.streams import Output, Streams


def test_data_and_notes_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    streams = Streams(Output(terminal))
    streams.hold()
    streams.write("[1] answer\n")
    streams.note("Canceling")
    streams.write("[2] CANCELED\n")
    assert terminal.getvalue() == ""
    streams.write_held()
    streams.write("[3] CANCELED\n")
    streams.let_go()
    streams.note("warning")
    assert terminal.getvalue().splitlines() == [
        "[1] answer",
        "Canceling",
        "[2] CANCELED",
        "[3] CANCELED",
        "warning",
    ]


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "text", ["\x9b31mred", "a\u202eb\u2066c", "\x7f\u200d\ufeff\U000e0041", "naïve 漢字 🎉\n"]
)
def test_json_on_a_terminal_has_nothing_that_the_terminal_would_act_on(text: str) -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        Output(stream).write(documents.dump({text: [text]}))
    written = terminal.getvalue()
    assert json.loads(written) == json.loads(pipe.getvalue()) == {text: [text]}
    assert one_line(written.replace("\n", "")) == written.replace("\n", "").strip()
    assert pipe.getvalue() == documents.dump({text: [text]})
