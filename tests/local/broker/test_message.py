"""What the store publishes is what Celery would."""

from __future__ import annotations

import base64
import json
from typing import Any

from clinvk.broker.app import create_app
from clinvk.broker.dispatcher import Dispatcher
from clinvk.broker.message import AGGREGATE, EXECUTE, maker
from clinvk.core.spec import RunOptions, TaskSpec
from clinvk.store.store import Store

RUN, QUEUE = "20260102-030405-abcdef01", "clinvk.my-tool.2"


def published(store: Store) -> dict[str, Any]:
    """The one message in the queue, its body decoded."""
    (text,) = store.redis.lrange(QUEUE, 0, -1)
    store.redis.delete(QUEUE)
    message: dict[str, Any] = json.loads(text)
    body = message["body"]
    if message["properties"].pop("body_encoding", None) == "base64":
        body = base64.b64decode(body)
    return {**message, "body": json.loads(body)}


def test_a_published_task_is_what_celery_would_send(broker_url: str) -> None:
    store = Store.connect(broker_url)
    app: Any = create_app(broker_url)
    store.announce("w", {"slots": 1, "queues": [QUEUE]})
    Dispatcher(maker(app), store).submit(
        RUN, [TaskSpec(backend="my-tool.2", prompt="x")], RunOptions(max_parallel=1)
    )
    ours = published(store)
    app.send_task(
        EXECUTE,
        (RUN, 0, 1),
        task_id=f"{RUN}-0",
        queue=QUEUE,
        group_id=RUN,
        group_index=0,
        chord=app.signature(AGGREGATE, (RUN,), immutable=True, queue=QUEUE),
        ignore_result=True,
    )
    theirs = published(store)
    assert ours["properties"].pop("delivery_tag") == f"{RUN}:0:1"
    assert theirs["properties"].pop("delivery_tag")
    ours["properties"].pop("reply_to")  # for a result backend by messages, which this is not
    theirs["properties"].pop("reply_to")
    assert ours == theirs
