"""What a worker takes beside Celery's event loop."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from clinvk.broker.consumer import Consumer


class Channel:
    """As much of a channel as is used."""

    def __init__(self, *queues: str) -> None:
        self.active_queues = set(queues)
        self.connection = self
        self.delivered: list[tuple[bytes, str]] = []

    def receive(self, message: bytes, queue: str) -> None:
        if queue not in self.active_queues:
            raise KeyError(queue)
        self.delivered.append((message, queue))


def consumer(channel: Channel | None) -> Consumer:
    made = Consumer.__new__(Consumer)
    made.task_consumer = None if channel is None else SimpleNamespace(channel=channel)
    return made


def in_a_thread(call: Any, *arguments: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call, *arguments).result()


def test_a_tasks_thread_takes_from_the_queues_that_are_served_just_now() -> None:
    channel = Channel("clinvk.a", "clinvk.b")
    worker = consumer(channel)
    assert sorted(in_a_thread(worker.serves)) == ["clinvk.a", "clinvk.b"]
    channel.active_queues.remove("clinvk.a")
    assert in_a_thread(worker.serves) == ["clinvk.b"]
    assert in_a_thread(consumer(None).serves) == []


def test_no_queue_comes_first_for_ever() -> None:
    worker = consumer(Channel("clinvk.a", "clinvk.b"))
    assert len({tuple(in_a_thread(worker.serves)) for _ in range(100)}) == 2


def test_what_nobody_else_may_take_comes_first() -> None:
    worker = consumer(Channel("clinvk.0", "clinvk.@w@h", "clinvk.a"))
    assert {in_a_thread(worker.serves)[0] for _ in range(20)} == {"clinvk.@w@h"}


def test_in_the_loops_own_thread_the_loop_takes() -> None:
    assert consumer(Channel("clinvk.a")).serves() == []


def test_a_message_is_received_as_from_the_broker() -> None:
    channel = Channel("clinvk.a")
    consumer(channel).take("clinvk.a", b"x")
    assert channel.delivered == [(b"x", "clinvk.a")]


@pytest.mark.parametrize("channel", [None, Channel("clinvk.a")])
def test_a_message_that_cannot_be_received_is_told_and_left(
    channel: Channel | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        consumer(channel).take("clinvk.gone", b"{}")
    assert "a message from clinvk.gone could not be received" in caplog.text


def test_acknowledging_does_not_wait_for_the_loop() -> None:
    said: list[str] = []
    consumer(None).call_soon_ack(said.append, "done")
    assert said == ["done"]
