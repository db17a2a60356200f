"""Tables of workers, queues and runs: columns stay in line whatever the names are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rich.cells import cell_len

from clinvk.core.spec import RunSummary
from clinvk.output import config, tables
from clinvk.store.types import QueueState

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
    assert list(tables.queues([queue]))[1].split()[3:5] == ["1", "4"]


def test_a_state_says_true_as_its_json_does() -> None:
    assert list(tables.status({"state": "done", "fail_fast": False})) == [
        "state: done",
        "fail_fast: false",
    ]
