"""Sequences outside of memory: what is written is read again, whatever the disk does."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvk.core.spec import TaskSpec
from clinvk.runs import spool
from clinvk.runs.spool import Records, Spool


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "HELD_BYTES", 64)


@given(st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=200))))
def test_the_last_record_of_a_place_is_read(writes: list[tuple[int, bytes]]) -> None:
    records, expected = Records(10), dict.fromkeys(range(10), b"")
    for index, record in writes:
        records[index] = expected[index] = record
        assert records[index] == record
    assert [records[index] for index in range(10)] == list(expected.values())
    assert [records.has(index) for index in range(10)] == [bool(x) for x in expected.values()]


def test_a_spool_is_a_sequence() -> None:
    specs = [TaskSpec(backend="echo", prompt=f"naïve 漢字 {number}") for number in range(20)]
    kept = Spool(TaskSpec, specs)
    assert list(kept) == list(kept) == specs
    assert (len(kept), kept[3], kept[-1], kept[2:5]) == (20, specs[3], specs[-1], specs[2:5])
    assert list(reversed(kept)) == specs[::-1]
    with pytest.raises(IndexError):
        kept[20]


def test_places_are_filled_in_any_order() -> None:
    kept = Spool(TaskSpec, count=3)
    kept[2] = TaskSpec(backend="echo", prompt="last")
    assert list(kept.missing()) == [0, 1]
    kept[0] = TaskSpec(backend="echo", prompt="first")
    assert list(kept.missing()) == [1]
    assert (kept[0].prompt, kept[2].prompt) == ("first", "last")


def no_space(*_: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("broken", ["os.pwrite", "tempfile.TemporaryFile"])
def test_a_full_disk_loses_nothing(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    texts = [f"{number}".encode() * 30 for number in range(30)]
    records = Records()
    for number, text in enumerate(texts):
        with monkeypatch.context() as patch:
            if 10 <= number < 20 or broken != "os.pwrite":
                patch.setattr(broken, no_space)
            records.append(text)
    assert [records[number] for number in range(30)] == texts


def test_a_write_may_stop_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda fd, data, at: whole(fd, data[:7], at))
    records = Records()
    for number in range(20):
        records.append(str(number).encode() * 20)
    assert [records[number] for number in range(20)] == [str(n).encode() * 20 for n in range(20)]


def test_its_file_has_no_name_and_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    process = psutil.Process()
    before = process.num_fds()
    records = Records()
    records.append(b"x" * 100)
    assert process.num_fds() == before + 1
    assert list(tmp_path.iterdir()) == []
    del records
    assert process.num_fds() == before


def test_a_small_run_makes_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("tempfile.TemporaryFile", no_space)
    assert len(Spool(TaskSpec, [TaskSpec(backend="echo", prompt="x" * 1000)] * 100)) == 100
