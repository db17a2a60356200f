"""What a worker announces, and in which order."""

from __future__ import annotations

import threading

import pytest
import redis

from clinvk.store.store import Store
from workers.liveness.worker_info import Announcement, HealthObserver
from workers.observers import WorkerStarted

QUEUE = "clinvk.a"
LIMITS = {QUEUE: {"max_concurrency": 3}}


def limit(store: Store) -> int | None:
    """The limit of the one queue that there is."""
    return next((queue.max_concurrency for queue in store.queues()), None)


def announcement(store: Store) -> Announcement:
    return Announcement(store, "w@h", {"slots": 2, "queues": [QUEUE]}, LIMITS)


def test_limits_are_set_before_the_first_slot_is_announced(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = announcement(store)
    with monkeypatch.context() as away:

        def fail(*_: object, **__: object) -> None:
            raise redis.ConnectionError("away")

        away.setattr(store, "limit", fail)
        with pytest.raises(redis.ConnectionError):
            found.publish()
        assert store.workers() == {}
    found.publish()
    assert limit(store) == 3
    assert store.workers()["w@h"]["slots"] == 2


def test_limits_are_set_once(store: Store) -> None:
    found = announcement(store)
    found.publish()
    store.limit(QUEUE, "operator", max_concurrency=None)
    found.publish()
    assert limit(store) is None


def test_a_worker_that_drains_has_the_slots_of_what_runs(store: Store) -> None:
    found = announcement(store)
    found.describe(clis={"a": "1.0"})
    found.drain(running=1)
    assert store.workers()["w@h"] == {
        "slots": 1,
        "queues": [QUEUE],
        "clis": {"a": "1.0"},
        "draining": True,
    }
    found.drain(running=0)
    assert store.workers() == {}


def test_a_cli_that_is_updated_is_looked_at_again_once_its_files_stay_as_they_are() -> None:
    files = iter(["old", "old", "half", "new", "new", "new"])
    waits = iter([True] * 5 + [False])
    looks: list[int] = []

    def look() -> dict[str, int]:
        looks.append(1)
        return {"looks": len(looks)}

    described, has_ended = list[int](), threading.Event()

    def wait() -> bool:
        goes_on = next(waits)
        if not goes_on:
            has_ended.set()
        return goes_on

    def describe(looks: int) -> None:
        described.append(looks)

    HealthObserver(look, lambda: next(files), describe, wait).saw(WorkerStarted("w@h", 1, []))
    assert has_ended.wait(10)
    assert described == [1, 2]
    assert next(files, None) is None
