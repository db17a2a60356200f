"""A schema is stored once for all tasks of a run, and is there for who runs or shows them."""

from __future__ import annotations

from typing import Any

import pytest

from clinvk.core.schemas import to_piece
from clinvk.core.spec import ErrorKind, RunOptions, TaskSpec
from clinvk.runs.shared_schemas import SharedSchemas
from clinvk.store.shipments import Shipments
from clinvk.store.store import Store
from workers.execution.refusal import RefusedError
from workers.execution.shared_schemas import SharedSchemas as OfWorker

SCHEMA = {"type": "object", "required": ["b", "a"], "title": "\ud800ü" * 5000}
PLAIN = TaskSpec(backend="a", prompt="x")
WITH = TaskSpec(backend="a", prompt="x", schema=SCHEMA)
OTHER = TaskSpec(backend="a", prompt="x", schema={"type": "array"})


def submit(store: Store, *specs: TaskSpec, run: str = "r") -> list[TaskSpec]:
    schemas = SharedSchemas(store, 3600.0)
    shared = [schemas.shared(spec) for spec in specs]
    store.announce("w", {"slots": 9, "queues": ["clinvk.a"]})
    store.submit(run, shared, RunOptions())
    return shared


def stored_bytes(store: Store) -> int:
    specs = store.redis.hvals("clinvk:run:r:specs")
    pieces = store.redis.keys("clinvk:submission::piece:*")
    lengths = [store.redis.hstrlen(each, "content") for each in pieces]
    return sum([*map(len, specs), *lengths])


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read from here on."""
    found: list[str] = []
    read = Shipments.piece

    def piece(store: Store, submitter: str, name: str) -> bytes | None:
        found.append(name)
        return read(store, submitter, name)

    monkeypatch.setattr(Shipments, "piece", piece)
    return found


def test_it_is_stored_once_and_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = submit(store, *[WITH] * 50, OTHER, PLAIN)
    assert shared[-1] is PLAIN
    assert stored_bytes(store) < len(to_piece(SCHEMA)) + 52 * 200
    assert store.specs("r", range(52)) == [*[WITH] * 50, OTHER, PLAIN]
    found, worker = reads(monkeypatch), OfWorker()
    worker.store = store
    assert [worker.complete(each, "r") for each in shared] == [*[WITH] * 50, OTHER, PLAIN]
    assert len(found) == 2


def test_tasks_without_a_schema_cost_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shipments, "put_pieces", None)
    monkeypatch.setattr(Shipments, "schemas", None)
    submit(store, PLAIN)
    assert store.specs("r", [0]) == [PLAIN]


@pytest.mark.parametrize("content", [None, b"{}", b"[]", to_piece({"a": "b"})])
def test_what_is_not_there_is_an_error_of_the_task(store: Store, content: bytes | None) -> None:
    (shared,) = submit(store, WITH)
    (piece,) = store.redis.keys("clinvk:submission::piece:*")
    store.redis.delete(piece)
    if content is not None:
        store.redis.hset(piece, "content", content)
        store.redis.pexpire(piece, 1000)
    worker = OfWorker()
    worker.store = store
    with pytest.raises(RefusedError, match="not in the store any more") as refused:
        worker.complete(shared, "r")
    assert refused.value.kind is ErrorKind.INVALID
    assert store.specs("r", [0]) == [shared]


def test_what_is_no_schema_is_refused(store: Store) -> None:
    deep: Any = {}
    for _ in range(200):
        deep = {"a": deep}
    shared = SharedSchemas(store, 3600.0).shared(TaskSpec(backend="a", prompt="x", schema=deep))
    worker = OfWorker()
    worker.store = store
    with pytest.raises(RefusedError):
        worker.complete(shared, "r")
