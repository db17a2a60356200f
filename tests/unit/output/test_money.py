"""Amounts of money as text."""

from __future__ import annotations

import pytest

from clinvk.core.spec import TaskResult, TaskSpec, TaskStatus, Try, Usage
from clinvk.core.spending import LOST, Spending
from clinvk.output.money import cost_line, usd
from clinvk.runs.report import Report


def said(micros: int = 0, *, estimated: int = 0, tokens: int = 0) -> Spending:
    return Spending(
        executions=1, cli_micro_usd=micros, estimated_micro_usd=estimated, total_tokens=tokens
    )


@pytest.mark.parametrize(
    ("spending", "text"),
    [
        (Spending(), "-"),
        (LOST, "-"),
        (said(), "$0.00"),
        (said(420_000), "$0.42"),
        (said(1_234_567_891), "$1,234.57"),
        (said(300), "$0.0003"),
        (said(estimated=120_000), "~$0.12"),
        (said(300_000, estimated=120_000), "$0.42"),
    ],
)
def test_a_cost(spending: Spending, text: str) -> None:
    assert usd(spending) == text


@pytest.mark.parametrize(
    ("spending", "line"),
    [
        ({}, []),
        ({"echo": Spending()}, []),
        ({"tool": LOST}, []),
        (
            {
                "codex": said(estimated=120_000, tokens=200_000),
                "claude": said(300_000, tokens=10**6),
            },
            ["Cost: $0.42 (claude $0.30, codex ~$0.12), 1.2M tokens"],
        ),
        ({"codex": said(estimated=120_000)}, ["Cost: ~$0.12 (codex ~$0.12)"]),
        ({"codex": LOST + Spending(total_tokens=812)}, ["Cost: unknown, 812 tokens"]),
        (
            {"claude": said(300_000), "tool": LOST + LOST},
            ["Cost: $0.30 (claude $0.30), without 2 of unknown cost"],
        ),
    ],
)
def test_the_line_of_a_runs_cost(spending: dict[str, Spending], line: list[str]) -> None:
    assert list(cost_line(spending)) == line


def test_a_report_counts_what_was_tried_under_the_backend_that_ran_it() -> None:
    result = TaskResult(
        index=0,
        status=TaskStatus.OK,
        exit_code=0,
        duration_seconds=1,
        backend="codex",
        usage=Usage(total_tokens=3),
        cost_usd=0.1,
        cost_source="estimated",
        tried=[Try(backend="claude", cost_usd=0.2, cost_source="cli")],
        attempts=2,
    )
    spec = TaskSpec(backend="claude", prompt="x")
    report = Report(run_id="r", specs=[spec], results=[result], started_ms=0, ended_ms=1)
    assert report.spending == {
        "claude": LOST + Spending(executions=1, cli_micro_usd=200_000),
        "codex": Spending(executions=1, estimated_micro_usd=100_000, total_tokens=3),
    }
