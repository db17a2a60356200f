"""What is noted of limits where no live display shows them."""

from __future__ import annotations

import pytest

from clinvk.output.forms.waits import Waits
from clinvk.output.reporter import View
from clinvk.runs.client import Event
from clinvk.runs.waiting import Wait
from tests.unit.output.test_forms import presentation

NOW_MS = 1_893_456_000_000  # 2030-01-01T00:00:00Z


def event(*until_seconds: float, kind: str = "usage_limit") -> Event:
    waits = [
        Wait(name, kind, NOW_MS + int(seconds * 1000), 37, NOW_MS)
        for name, seconds in zip(("claude", "codex"), until_seconds, strict=False)
    ]
    return Event(kind="waits", waits=waits)


@pytest.mark.usefixtures("east")
def test_a_limit_is_noted_once_each_time_that_it_closes(capsys: pytest.CaptureFixture[str]) -> None:
    form = Waits(presentation(View()))
    form.saw(event(720))
    form.saw(event(760))  # the reset that another task met
    form.saw(event(700, 3600))
    form.saw(event())
    form.saw(event(7200))
    form.saw(event(-1))
    assert capsys.readouterr().err.splitlines() == [
        "clinvk: claude: limited until 2030-01-01 02:12 (in 12 min), 37 waiting",
        "clinvk: codex: limited until 2030-01-01 03:00 (in 60 min), 37 waiting",
        "clinvk: claude: limited until 2030-01-01 04:00 (in 2h), 37 waiting",
    ]


def test_what_is_only_tried_again_is_not_noted(capsys: pytest.CaptureFixture[str]) -> None:
    Waits(presentation(View())).saw(event(30, kind=""))
    assert capsys.readouterr().err == ""
