"""What follows from the store's operations, and what does not matter to them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import kombu.exceptions
import pytest

from clinvk.broker.dispatcher import Dispatcher
from clinvk.store.store import Store
from tests.unit.store.test_store import RUN, submit


def test_a_revocation_that_fails_keeps_no_run_open(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Celery may need a new connection for it, and what was canceled is canceled without it."""

    def revoke(_: Any) -> None:
        raise kombu.exceptions.OperationalError("no such file")

    app: Any = SimpleNamespace(control=SimpleNamespace(revoke=revoke))
    submit(store, "a a")
    Dispatcher(app, store).cancel(RUN, "interrupted")
    summary = store.summary(RUN)
    assert summary is not None
    assert summary.state == "done"
    assert [record.getMessage() for record in caplog.records] == [
        "revoking canceled tasks: OperationalError: no such file"
    ]
