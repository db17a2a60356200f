"""The Celery application of clients and workers.

Each setting is here for a reason, which stands beside it. What the settings rest on: the
message is acknowledged on receipt, and from the claim on it is the store's lease that says
whether a task is alive. So nothing in the broker may ever deliver a task a second time.
"""

from __future__ import annotations

from celery import Celery

from clinvk.broker.transport import ALIAS, urls


def create_app(broker_url: str | None) -> Celery:
    """Give a Celery application for a broker. Redis holds the messages and the chords' counts.

    Clients create one of their own; workers run that of `workers.app`.
    """
    app = Celery("clinvk", set_as_current=False)
    broker, backend = urls(broker_url) if broker_url else (None, None)
    app.conf.update(
        broker_url=broker,
        # How messages are taken, and parts of chords counted: clinvk/broker/transport.py.
        broker_transport=ALIAS,
        result_backend=backend,
        # JSON only. Pickle would let whoever reaches the broker run code on every worker.
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        # Members of the chord return nothing that anyone reads: results are in the run's record,
        # which counts the chord as well. So Celery stores nothing.
        task_ignore_result=True,
        # So its backend has no state, and one serves all threads.
        result_backend_thread_safe=True,
        # On receipt, see above.
        task_acks_late=False,
        # A task is a subprocess; the thread that has it only waits. Celery's own time limits do
        # not work on threads: deadlines are ours (workers/execution/process.py).
        # The pool is Celery's thread pool with one addition, told in clinvk/broker/pool.py.
        worker_pool="clinvk.broker.pool:TaskPool",
        worker_consumer="clinvk.broker.consumer:Consumer",
        # Fetch only what can start now; the rest is for other machines.
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        # A worker may be up before Redis is, and outlives its restarts.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # Standard output belongs to whoever started the worker.
        worker_redirect_stdouts=False,
        worker_hijack_root_logger=False,
        broker_transport_options={"socket_keepalive": True},
    )
    return app
