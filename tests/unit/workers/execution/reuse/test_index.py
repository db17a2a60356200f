"""Results by their fingerprints, in files and on a broker."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from clinvk.core.spec import ErrorKind, TaskResult, TaskStatus, Usage
from clinvk.store.types import Lease
from workers.execution.reuse.index import DAY_SECONDS, DirectoryIndex
from workers.execution.reuse.reuse import offered, taken

LEASE = Lease("20260102-030405-abcdef01", 3, 1)
OTHER = Lease("20260102-030406-abcdef02", 5, 1)
RESULT = TaskResult(
    index=3,
    status=TaskStatus.OK,
    exit_code=0,
    duration_seconds=2.0,
    output="fine",
    usage=Usage(input_tokens=1),
    cost_usd=0.5,
    cost_source="cli",
)


def test_a_file_is_found_until_it_is_too_old(tmp_path: Path) -> None:
    index = DirectoryIndex(tmp_path, keep_days=1, keep_bytes=100)
    assert index.find("ab12") is None
    index.keep("ab12", b"one")
    index.keep("ab12", b"two")
    assert index.find("ab12") == b"two"
    path = tmp_path / "ab" / "ab12"
    assert path.stat().st_mode & 0o777 == 0o600
    old = time.time() - DAY_SECONDS - 60
    os.utime(path, (old, old))
    assert index.find("ab12") is None
    (tmp_path / "cleaned").unlink()
    index.keep("cd34", b"x" * 101)
    assert not path.exists()
    assert index.find("cd34") is None, "more than is kept in all"


def test_a_result_is_taken_as_what_it_is_and_costs_nothing() -> None:
    found = taken(offered(RESULT, LEASE).to_wire(), OTHER)
    assert found is not None
    assert (found.index, found.output, found.reused) == (5, "fine", f"{LEASE.run}/3")
    assert (found.usage, found.cost_usd, found.cost_source) == (None, None, None)


@pytest.mark.parametrize(
    ("wire", "lease"),
    [
        (None, OTHER),
        (b"{", OTHER),
        (RESULT.to_wire(), OTHER),
        (offered(RESULT, LEASE).to_wire(), LEASE),
        (
            TaskResult(
                index=0,
                status=TaskStatus.FAILED,
                exit_code=1,
                duration_seconds=0.0,
                error_kind=ErrorKind.FAILED,
                reused="r/0",
            ).to_wire(),
            OTHER,
        ),
    ],
    ids=["none", "damaged", "nobody's", "of the same run", "failed"],
)
def test_nothing_else_is_taken(wire: bytes | None, lease: Lease) -> None:
    assert taken(wire, lease) is None
