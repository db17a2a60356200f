"""Tables of workers, queues and runs: columns stay in line whatever the names are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rich.cells import cell_len

from clinvk.core.spec import RunSummary
from clinvk.output import config, tables
from clinvk.store.types import Gate, QueueState

WIDE = "漢字🎉"


def workers() -> Iterator[str]:
    entry = {"slots": 3, "queues": ["clinvk.echo"], "version": "1"}
    return tables.workers({f"{WIDE}@h": entry, "plain@host": entry})


def queues() -> Iterator[str]:
    fields: dict[str, Any] = {"max_concurrency": 8, "rate": None, "is_paused": False}
    fields |= {"running": 1, "in_flight": 1, "waiting": 2, "slots": 3}
    names = (f"clinvk.{WIDE}", "clinvk.a")
    return tables.queues([QueueState(name=name, **fields) for name in names])


def runs() -> Iterator[str]:
    return tables.runs([RunSummary(run_id=name, total=3) for name in (WIDE, "20260102-x")])


def test_origins_of_settings_stand_below_each_other() -> None:
    rows = [("backends.claude.system_prompt", f"{WIDE}", "c.yaml"), ("output_dir", None, "default")]
    first, second = config.lines(rows)
    assert cell_len(first.partition("  # ")[0]) == cell_len(second.partition("  # ")[0])


@pytest.mark.parametrize("table", [workers, queues, runs])
def test_columns_start_at_the_same_cell_in_each_line(table: object) -> None:
    head, *rows = table()  # type: ignore[operator]
    second = head.split()[1]
    at = head.index(second)
    for row in rows:
        name = row.split()[0]
        before = row[: row.index(row.split()[1], len(name))]
        assert cell_len(before) == at


def test_a_task_that_is_dispatched_and_not_claimed_waits() -> None:
    limits: dict[str, Any] = {"max_concurrency": None, "rate": None, "is_paused": False, "slots": 3}
    queue = QueueState(name="clinvk.a", running=1, in_flight=3, waiting=2, **limits)
    (entry,) = tables.queues_document([queue])
    assert (entry["running"], entry["waiting"]) == (1, 4)
    assert list(tables.queues([queue]))[1].split()[4:6] == ["1", "4"]


NOW_MS = 1_893_456_000_000  # 2030-01-01T00:00:00Z
CLOSED_MS = NOW_MS + 3_600_000
BECAUSE = "usage limit of a, from worker w@h"


def gate(closed_until_ms: int | None, limit: int | None = None, model: str = "") -> Gate:
    return Gate(
        model=model,
        closed_until_ms=closed_until_ms,
        retry_at_ms=None,
        kind="usage_limit",
        worker="w@h",
        limit=limit,
    )


def limited(*gates: Gate, **more: Any) -> QueueState:
    fields: dict[str, Any] = {"max_concurrency": 8, "rate": None, "is_paused": False, "slots": 9}
    fields |= {"name": "clinvk.a", "running": 0, "in_flight": 0, "waiting": 2, "now_ms": NOW_MS}
    return QueueState(gates=gates, **fields | more)


@pytest.mark.usefixtures("east")
@pytest.mark.parametrize(
    ("queue", "in_force", "text", "state", "until", "because"),
    [
        (limited(), 8, "open", "open", None, None),
        (limited(max_concurrency=None), None, "open", "open", None, None),
        (limited(gate(None, 3)), 3, "open", "open", None, None),
        (limited(gate(None, 30)), 8, "open", "open", None, None),
        (
            limited(gate(CLOSED_MS)),
            0,
            f"closed until 2030-01-01 03:00, {BECAUSE}",
            "closed",
            "2030-01-01T01:00:00.000Z",
            BECAUSE,
        ),
        (limited(gate(NOW_MS)), 1, f"open, one task tries, {BECAUSE}", "open", None, None),
        (limited(is_paused=True), 0, "paused", "paused", None, None),
        (
            limited(is_paused=True, paused_until_ms=CLOSED_MS),
            0,
            "paused until 2030-01-01 03:00",
            "paused",
            "2030-01-01T01:00:00.000Z",
            None,
        ),
        (limited(is_paused=True, paused_until_ms=NOW_MS), 8, "open", "open", None, None),
    ],
)
def test_what_a_queue_lets_through(
    queue: QueueState,
    in_force: int | None,
    text: str,
    state: str,
    until: str | None,
    because: str | None,
) -> None:
    head, row = tables.queues([queue])
    assert row[head.index("STATE") :] == text
    assert row[head.index("IN FORCE") :].split()[0] == str("-" if in_force is None else in_force)
    (entry,) = tables.queues_document([queue])
    assert (entry["limit_in_force"], entry["state"]) == (in_force, state)
    assert (entry["closed_until"], entry["closed_because"]) == (until, because)
    assert entry["paused"] is (state == "paused")


@pytest.mark.usefixtures("east")
def test_a_limit_of_one_model_has_a_row_of_its_own() -> None:
    queue = limited(gate(CLOSED_MS, model="opus"))
    head, row, of_model = tables.queues([queue])
    assert row[head.index("STATE") :] == "open"
    assert of_model.startswith("a:opus ")
    assert of_model[head.index("STATE") :] == f"closed until 2030-01-01 03:00, {BECAUSE}"
    (entry,) = tables.queues_document([queue])
    assert entry["state"] == "open"
    assert entry["models"]["opus"]["state"] == "closed"


def test_a_state_says_true_as_its_json_does() -> None:
    budget = {"cost_usd": {"left": 0.5}, "stopped": True}
    assert list(tables.status({"state": "done", "fail_fast": False, "budget": budget})) == [
        "state: done",
        "fail_fast: false",
        "budget.cost_usd.left: 0.5",
        "budget.stopped: true",
    ]
