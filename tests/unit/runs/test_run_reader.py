"""One run as it is read from the store."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import fakeredis
import pytest

from clinvk.core.spec import RunOptions, TaskResult, TaskSpec, TaskStatus
from clinvk.runs.run_reader import EXPIRED, RunIsGoneError, RunReader
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import Lease

RUN = "r"


class FakeClient:
    """A client of nothing but a store."""

    is_private = False

    def __init__(self, store: Store) -> None:
        self.store = store

    def reaching_broker(self) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.fixture
def store(redis_client: fakeredis.FakeRedis) -> Store:
    store = Store(redis_client)
    store.announce("w", {"slots": 9, "queues": ["clinvk.a"]})
    specs = [TaskSpec(backend="a", prompt=f"p{index}") for index in range(3)]
    store.submit(RUN, specs, RunOptions(max_parallel=9))
    for index in range(3):
        lease = Lease(RUN, index, 1)
        store.claim(lease, "w/1", "n")
        store.finish(lease, result(index))
    store.aggregate(RUN)
    return store


def result(index: int) -> TaskResult:
    return TaskResult(index=index, status=TaskStatus.OK, exit_code=0, duration_seconds=0.1)


@pytest.fixture
def run(store: Store) -> RunReader:
    return RunReader(RUN, 3, FakeClient(store))  # type: ignore[arg-type]


def test_a_task_whose_spec_has_expired_keeps_its_place(store: Store, run: RunReader) -> None:
    store.redis.hdel(key("specs", RUN), 1)
    found = list(run.results(run.summary()))
    assert [spec.prompt for spec, _ in found] == ["p0", EXPIRED.prompt, "p2"]
    assert [each for _, each in found] == [result(index) for index in range(3)]
    assert [spec.prompt for spec in run.specs()] == ["p0", EXPIRED.prompt, "p2"]


def test_a_run_that_is_gone_is_said_to_be(store: Store, run: RunReader) -> None:
    store.redis.flushall()
    with pytest.raises(RunIsGoneError, match="run r is gone from the broker"):
        run.summary()
