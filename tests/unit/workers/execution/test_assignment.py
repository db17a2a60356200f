"""What a claim gives a worker to run."""

from __future__ import annotations

from typing import Any

import pytest

from clinvk.backends.base import Session
from clinvk.core.history import History
from clinvk.core.spec import ErrorKind, TaskSpec, Try
from clinvk.store.types import Claim
from workers.execution.assignment import Assignment, assigned
from workers.execution.refusal import RefusedError

SPEC = TaskSpec(
    backend="a",
    prompt="x",
    model="opus",
    retries=2,
    alternatives=["b"],
    fallback=["a:haiku", "c", "b:big"],
    variants={"b": {"model": "small", "max_turns": 3}},
)


def claimed(queue: str = "clinvk.a", model: str = "", **more: Any) -> Assignment:
    spec, history = more.get("spec", SPEC), more.get("history", History())
    wire = history.to_wire()
    claim = Claim("go", spec.to_wire(), queue=queue, model=model, history=wire)
    return assigned(claim, lambda task: task)


@pytest.mark.parametrize(
    ("queue", "model", "entry", "its_model"),
    [
        ("clinvk.a", "", "a", "opus"),
        ("clinvk.a", "opus", "a", "opus"),
        ("clinvk.a", "haiku", "a:haiku", "haiku"),
        ("clinvk.b", "", "b", "small"),
        ("clinvk.b", "small", "b", "small"),
        ("clinvk.b", "big", "b:big", "big"),
        ("clinvk.c", "", "c", None),
    ],
)
def test_a_task_is_that_of_the_queue_that_it_came_through(
    queue: str, model: str, entry: str, its_model: str | None
) -> None:
    found = claimed(queue, model)
    assert (found.entry, found.variant.model) == (entry, its_model)
    assert found.variant.backend == queue.removeprefix("clinvk.")
    assert not found.variant.alternatives
    assert found.variant.max_turns == (3 if entry == "b" else None)


@pytest.mark.parametrize(("queue", "model"), [("clinvk.d", ""), ("clinvk.a", "gpt"), ("x", "")])
def test_a_queue_that_is_none_of_its_own_is_refused(queue: str, model: str) -> None:
    with pytest.raises(RefusedError, match=f"through the queue {queue}") as refused:
        claimed(queue, model)
    assert refused.value.kind is ErrorKind.REFUSED


@pytest.mark.parametrize("history", [b"{", b"[]", b'{"v":1,"session":7}', b'{"v":1,"x":1}'])
def test_a_history_that_cannot_be_read_is_refused(history: bytes) -> None:
    with pytest.raises(RefusedError):
        assigned(Claim("go", SPEC.to_wire(), history=history), lambda task: task)


def test_a_forged_variant_is_refused() -> None:
    spec = TaskSpec(backend="a", prompt="x", fallback=["b"], variants={"b": {"max_turns": "x"}})
    with pytest.raises(RefusedError, match="max_turns"):
        claimed("clinvk.b", spec=spec)


ACTED = History(
    tried=[Try(backend="a", error="limit", error_kind=ErrorKind.USAGE_LIMIT)],
    entries=["a"],
    session="s1",
    session_entry="a",
    session_worker="w@h",
)


def test_a_session_is_gone_on_with_where_it_is() -> None:
    spec, session = claimed(history=ACTED).begin("w@h", "go on")
    assert (spec.prompt, session) == ("go on", Session(keep=True, resume="s1"))


@pytest.mark.parametrize(("worker", "has_session"), [("other@h", True), ("w@h", False)])
def test_a_session_that_is_not_here_is_the_end(worker: str, has_session: bool) -> None:
    with pytest.raises(RefusedError) as refused:
        claimed(history=ACTED).begin(worker, "go on", has_session=has_session)
    assert str(refused.value) == (
        "limit (not tried again: it had called tools that can change something, and its session "
        "on worker w@h is gone; retry_after_changes: true allows it)"
    )
    assert (refused.value.kind, refused.value.is_final) == (ErrorKind.USAGE_LIMIT, True)


def test_where_it_may_a_task_is_started_over() -> None:
    history = History(session="s1", session_entry="a", session_worker="w@h", may_start_over=True)
    spec, session = claimed(history=history).begin("other@h", "go on")
    assert (spec.prompt, session) == ("x", Session(keep=True))


@pytest.mark.parametrize(
    ("fields", "is_kept"),
    [
        ({}, False),
        ({"retries": 0, "max_wait_seconds": 0.0}, False),
        ({"retries": 0}, True),
        ({"retries": 1, "max_wait_seconds": 0.0}, True),
    ],
)
def test_a_session_is_kept_where_it_may_be_wanted(fields: dict[str, Any], is_kept: bool) -> None:
    spec = TaskSpec(backend="a", prompt="x", **fields)
    assert claimed(spec=spec).begin("w@h", "go on")[1].keep == is_kept
