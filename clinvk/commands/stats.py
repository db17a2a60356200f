"""`clinvk stats`: how long the tasks of a run waited and ran, and what limited the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clinvk.commands.printing import note_unreadable, print_listing
from clinvk.output import stats as output
from clinvk.runs.stats import QueueLimit
from clinvk.runs.stats import stats as stats_of

if TYPE_CHECKING:
    from clinvk.runs.celery_client import CeleryClient


def stats(client: CeleryClient, run_id: str, *, as_json: bool) -> int:
    """Print what the record of a run, as far as it has come, says about its time."""
    run = client.open(run_id)
    summary = run.summary()
    with client.reaching_broker():
        queues = client.store.queues(note_unreadable)
        now_ms = client.store.server_time_ms()
    found = stats_of(
        summary,
        run.events_so_far(),
        run.results(summary),
        {
            queue.name: QueueLimit(queue.max_concurrency, has_rate=bool(queue.rate))
            for queue in queues
        },
        now_ms,
    )
    document = output.document(summary, found)
    return print_listing(document, output.lines(document), as_json=as_json)
