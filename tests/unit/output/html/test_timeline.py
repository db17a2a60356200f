"""The drawing of a run over time."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime

import pytest

from clinvk.core.spec import TaskResult, TaskSpec, TaskStatus
from clinvk.core.timestamps import rfc3339
from clinvk.output.html import timeline
from clinvk.runs.report import Report

Run = list[tuple[str, float, float]]
"""For each task its worker, when it began, when it ended."""


def drawn(run: Run, waited: float = 0.0) -> ET.Element:
    def at(seconds: float) -> str:
        return rfc3339(datetime.fromtimestamp(1000 + seconds, UTC))

    report = Report(
        run_id="r",
        specs=[TaskSpec(backend="a", prompt="<p>") for _ in run],
        results=[
            TaskResult(
                index=index,
                status=TaskStatus.OK,
                exit_code=0,
                duration_seconds=end - begin,
                worker=worker,
                waited_seconds=waited or None,
                start_time=at(begin),
                end_time=at(end),
            )
            for index, (worker, begin, end) in enumerate(run)
        ],
        started_ms=1_000_000,
        ended_ms=1_010_000,
    )
    return ET.fromstring(timeline.drawing(report))


def bars(drawing: ET.Element) -> list[tuple[float, ...]]:
    found = drawing.findall("a/rect")
    return sorted(
        (float(r.attrib["y"]), float(r.attrib["x"]), float(r.attrib["width"])) for r in found
    )


def test_tasks_one_after_another_share_a_lane() -> None:
    found = bars(drawn([("w", 0, 5), ("w", 5, 10), ("w", 2, 4), ("v", 0, 10)]))
    assert found == [(0, 150, 850), (17, 150, 425), (17, 575, 425), (34, 320, 170)]


def test_workers_are_named_once() -> None:
    texts = [each.text for each in drawn([("<w>", 0, 5), ("<w>", 1, 10)]).findall("text")]
    assert texts[0] == "0.0s" or "<w>" in texts
    assert texts.count("<w>") == 1


def test_a_wait_is_before_its_task() -> None:
    (wait,) = drawn([("w", 5, 10)], waited=5).findall("rect")
    assert (wait.attrib["x"], wait.attrib["width"]) == ("150.0", "425.0")
    (longer,) = drawn([("w", 5, 10)], waited=50).findall("rect")
    assert longer.attrib["x"] == "150.0"


def test_many_tasks_are_an_area(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MOST_BARS", 2)
    drawing = drawn([("w", 0, 10), ("w", 0, 10), ("w", 5, 10)])
    assert not drawing.findall("a/rect")
    assert len(drawing.findall("polygon")) == 1
    assert "3 at most" in [text.text for text in drawing.findall("text")]


def test_nothing_that_ran_is_no_drawing() -> None:
    result = TaskResult.never_started(0)
    run = Report(
        run_id="r",
        specs=[TaskSpec(backend="a", prompt="p")],
        results=[result],
        started_ms=0,
        ended_ms=1,
    )
    assert timeline.drawing(run) == ""
