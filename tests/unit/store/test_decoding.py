"""Records that anyone may have written are refused with a reason, or can be shown."""

from __future__ import annotations

import pytest
from hypothesis import given

from clinvk.core.errors import WireError
from clinvk.store import decoding
from tests import forged


@given(forged.RUNS)
def test_any_run(record: forged.Run) -> None:
    forged.check_run(record)


@given(forged.WORKERS)
def test_any_worker(wire: bytes) -> None:
    forged.check_worker(wire)


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        (b'{"slots": 1, "queues": [], "clis": null}', "clis must be a mapping"),
        (b'{"slots": true, "queues": []}', "slots must be an integer"),
        (b'{"queues": []}', "slots"),
        (b"[" * 5000, "nested too deeply"),
    ],
)
def test_what_a_worker_must_not_have_announced(entry: bytes, wrong: str) -> None:
    with pytest.raises(WireError, match=f"the record of worker w cannot be read: .*{wrong}"):
        decoding.worker("w", entry)
