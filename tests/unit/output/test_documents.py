"""JSON documents, whole and in pieces."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvk.core.changes import Changes, Commit
from clinvk.core.spec import RunSummary, TaskResult, TaskSpec, TaskStatus
from clinvk.output import documents


@pytest.mark.parametrize("answer", ["\ud800", "a\udc00b 漢", "\x00\x1b", "漢字"])
def test_a_document_is_json_whatever_the_answer(answer: str) -> None:
    written = documents.dump({"output": answer})
    assert json.loads(written.encode()) == {"output": answer}
    assert written.endswith("}\n")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab漢\n"), inner),
)


@given(st.dictionaries(st.sampled_from("abc"), VALUES), st.lists(VALUES, max_size=4))
def test_a_document_in_pieces_is_the_document(
    head: dict[str, object], entries: list[object]
) -> None:
    pieces = list(documents.listing(head, "entries", iter(entries)))
    assert "".join(pieces) == documents.dump({**head, "entries": entries})
    assert len(pieces) == len(entries) + 2


def test_half_of_a_surrogate_pair_in_one_entry_is_escaped_there() -> None:
    written = "".join(documents.listing({}, "x", ["漢", "\ud800"]))
    assert json.loads(written.encode()) == {"x": ["漢", "\ud800"]}


def test_changes_of_a_task_are_keys_of_its_entry() -> None:
    commit = Commit(sha="c", author="Ann", message="why")
    changes = Changes(
        base="b", start="s", tree="t", changed_files=["x"], files=1, commits=[commit], patch="p"
    )
    result = TaskResult(
        index=0, status=TaskStatus.OK, exit_code=0, duration_seconds=1, changes=changes
    )
    entry = documents.entry(TaskSpec(backend="echo", prompt="x"), result)
    told = {
        "base": "b",
        "changed_files": ["x"],
        "insertions": 0,
        "deletions": 0,
        "commits": [{"sha": "c", "author": "Ann", "message": "why"}],
        "patch": "p",
    }
    assert entry.items() >= told.items()
    without = documents.entry(
        TaskSpec(backend="echo", prompt="x"), dataclasses.replace(result, changes=None)
    )
    assert without.keys().isdisjoint(told)


def run(**fields: Any) -> RunSummary:
    return RunSummary(run_id="r", total=3, **fields)


def test_a_budget_says_what_is_left_of_each_unit_that_it_limits() -> None:
    limited = run(
        max_micro_usd=5_000_000,
        spent_micro_usd=1_500_000,
        assumed_micro_usd=500_000,
        reserved_micro_usd=250_000,
        spent_tokens=7,
    )
    left = {"limit": 5.0, "spent": 1.5, "assumed": 0.5, "reserved": 0.25, "left": 2.75}
    assert documents.budget(limited) == {"budget": {"cost_usd": left, "stopped": False}}
    counted = run(max_total_tokens=10, spent_tokens=12, reserved_tokens=0)
    gone_over = {"limit": 10, "spent": 12, "assumed": 0, "reserved": 0, "left": 0}
    assert documents.budget(counted) == {"budget": {"total_tokens": gone_over, "stopped": False}}
    assert documents.budget(run()) == {}


@pytest.mark.parametrize(
    ("fields", "by"),
    [
        ({"budget_of": "run"}, {"stopped_by": "run"}),
        ({"budget_of": "all"}, {"stopped_by": "day"}),
        ({"budget_of": "clinvk.claude"}, {"stopped_by": "day", "queue": "claude"}),
        ({"budget_of": "key ann"}, {"stopped_by": "day", "key": "ann"}),
        ({"cancel_reason": "unknown_cost"}, {"stopped_by": "unknown_cost"}),
    ],
    ids=str,
)
def test_it_says_whose_budget_stopped_the_run(fields: Any, by: dict[str, str]) -> None:
    ended = run(**{"cancel_reason": "budget", **fields})
    assert documents.budget(ended) == {"budget": {"stopped": True, **by}}
