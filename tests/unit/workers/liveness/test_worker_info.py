"""What a worker announces, and in which order."""

from __future__ import annotations

import pytest
import redis

from clinvk.store.store import Store
from workers.liveness.worker_info import Announcement

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
