"""`tests/unit/store/test_steps.py` over a real server, and one that is out of memory."""

from clinvk.store.store import Store
from tests.unit.store.test_steps import *
from tests.unit.store.test_steps import RUN, read, step, submit


def test_a_server_without_memory_goes_without_steps(store: Store) -> None:
    submit(store)
    store.record_steps(RUN, [step(0, "a")])
    store.redis.config_set("maxmemory", 1)
    try:
        assert store.record_steps(RUN, [step(0, "b")]) == 0
    finally:
        store.redis.config_set("maxmemory", 0)
    store.record_steps(RUN, [step(0, "c")])
    assert [text for *_, text in read(store)] == ["a", "c"]
