"""The Celery application of clients and workers.

Each setting has its reason beside it. What they rest on: a message is acknowledged on receipt, and
from the claim on it is the store's lease that says whether a task is alive. So the broker must
never deliver a task a second time.
"""

from __future__ import annotations

import re

from celery import Celery

from clinvk.broker.transport import ALIAS
from clinvk.core.broker_url import with_login_in_front

RESULT_BACKEND = "clinvk.broker.result_backend.ResultBackend"


def create_app(broker_url: str | None) -> Celery:
    """Return a Celery application for a broker.

    Clients create one of their own; workers run that of `workers.app`.
    """
    # With its own class of connections, because Celery shows URLs (clinvk/broker/masked.py).
    app = Celery("clinvk", amqp="clinvk.broker.masked:MaskedAMQP", set_as_current=False)
    broker, result_backend = celery_urls(broker_url) if broker_url else (None, None)
    app.conf.update(
        broker_url=broker,
        # No copy of a message that is taken: clinvk/broker/transport.py.
        broker_transport=ALIAS,
        # Chords are counted by the store: clinvk/broker/result_backend.py.
        result_backend=result_backend,
        # JSON only. Pickle would let whoever reaches the broker run code on every worker.
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        # Members of the chord return nothing that anyone reads: results are in the run's record,
        # which counts the chord as well. So Celery stores nothing.
        task_ignore_result=True,
        # So its result backend has no state, and one serves all threads.
        result_backend_thread_safe=True,
        # On receipt, see above.
        task_acks_late=False,
        # A task is a subprocess; the thread that has it only waits. Celery's own time limits do
        # not work on threads: deadlines are ours (workers/execution/process.py).
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


def celery_urls(broker_url: str) -> tuple[str, str]:
    """Translate any accepted form of a broker URL into Celery's: of the broker, and of the results.

    Celery refuses `rediss://` that does not say whether to verify the server's certificate:
    it is verified, unless the URL says otherwise.
    """
    if broker_url.startswith("rediss://") and "ssl_cert_reqs=" not in broker_url:
        broker_url += ("&" if "?" in broker_url else "?") + "ssl_cert_reqs=required"
    path = re.sub(r"^((redis\+)?socket|unix):///", "socket:///", broker_url)
    path = with_login_in_front(path)
    broker = f"{ALIAS}+{path}" if path.startswith("socket:") else path
    return broker, f"{RESULT_BACKEND}+{path}"
