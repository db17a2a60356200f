"""What is written while a display is drawn is held back, and written in its order."""

from __future__ import annotations

import io
import sys

import pytest

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
