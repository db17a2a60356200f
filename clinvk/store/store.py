"""The store: what is true of runs, tasks and leases, whoever lives or dies.

Each operation is one atomic Lua script in `lua/`, all or nothing; the rules they share are in
`lua/lib/`. States of a run:

    submitting   tasks are being recorded; nothing is dispatched yet
    running      tasks are dispatched, at most `max_parallel` at once
    canceled     nothing more is dispatched; what runs is being stopped
    done         every task has its result and the summary is made

A task of a running run is pending (in its queue's list), in flight (dispatched or running, see
`lua/lib/records.lua`), or has a result. Of an ordered run only the next task is pending or in
flight; those after it become pending one by one, as the task before them ends. A task without a
result in a canceled run that is done was canceled before it began. A retry takes results away:
their tasks are pending again, and the run is running.
"""

from __future__ import annotations

from clinvk.store.leases import Leases
from clinvk.store.ledger import Ledger
from clinvk.store.queues import Queues
from clinvk.store.requests import Requests
from clinvk.store.retries import Retries
from clinvk.store.reusable import Reusable
from clinvk.store.shipments import Shipments
from clinvk.store.steps import Steps


class Store(Retries, Leases, Queues, Steps, Ledger, Shipments, Requests, Reusable):
    """All operations. Each is one round trip, atomic, and safe to call from any thread."""
