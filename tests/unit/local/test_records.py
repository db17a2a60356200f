"""The records of local runs: their summaries, locks and removal."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from clinvk.core.errors import UsageError, WireError
from clinvk.core.spec import RunSummary
from clinvk.local import records as records_module
from clinvk.local.records import Record, Records, Summary

RUN = "20260102-030405-abcdef01"
OTHER = "20260102-030406-abcdef01"


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "runs")


def make(records: Records, run: str = RUN, **more: object) -> tuple[Record, int]:
    """A record as a run has it, and the descriptor of its lock."""
    record = records.of(run)
    lock_fd = record.create()
    record.write_summary(Summary(summary(run, **more), "/tmp/clinvk-x", ("clinvk.a",)))
    return record, lock_fd


def summary(run: str, **more: object) -> RunSummary:
    fields: dict[str, object] = {
        "created_ms": 1,
        "running": 2,
        "in_flight": 2,
        "reserved_tokens": 9,
    } | more
    return RunSummary(run_id=run, total=3, ok=1, **fields)  # type: ignore[arg-type]


def test_a_run_is_interrupted_where_nobody_has_its_lock(records: Records) -> None:
    record, lock_fd = make(records)
    assert record.summary().run.state == "running"
    os.close(lock_fd)
    found = record.summary().run
    assert (found.state, found.ok) == ("interrupted", 1)
    assert (found.running, found.in_flight, found.reserved_tokens) == (0, 0, 0)


def test_a_run_that_has_ended_is_not_interrupted(records: Records) -> None:
    record, lock_fd = make(records, state="done", ended_ms=7)
    os.close(lock_fd)
    assert record.summary().run.state == "done"


def test_only_the_user_can_enter_a_record(records: Records) -> None:
    before = os.umask(0)
    try:
        record, _ = make(records)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (record.path, *record.path.rglob("*"))}
    assert modes == {0o700, 0o600}


def test_a_record_is_locked_once(records: Records) -> None:
    record, lock_fd = make(records)
    assert record.lock(0) is None
    os.close(lock_fd)
    again = record.lock(0)
    assert again is not None


def test_the_newest_come_first(records: Records) -> None:
    make(records, RUN)
    make(records, OTHER)
    (records.directory / "notes").mkdir()
    found = [each.run.run_id for each in records.newest(9)]
    assert found == [OTHER, RUN]
    assert [each.run.run_id for each in records.newest(1)] == [OTHER]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"format": 2}', f"run {RUN} was recorded by a newer clinvk: use that version"),
        ("{", f"the summary of run {RUN} cannot be read: "),
        ('{"format": 1, "run": 3}', f"the summary of run {RUN} cannot be read: "),
        ("[]", f"the summary of run {RUN} cannot be read: "),
        ('{"format": 1, "run": {}, "socket_directory": ""}', "cannot be read: "),
    ],
)
def test_a_summary_that_cannot_be_read_is_said(records: Records, text: str, problem: str) -> None:
    record, _ = make(records)
    (record.path / "summary.json").write_text(text)
    with pytest.raises(WireError, match=problem):
        record.summary()
    said: list[str] = []
    assert records.newest(9, said.append) == []
    assert problem in said[0]


def test_a_summary_of_another_run_is_refused(records: Records) -> None:
    record, _ = make(records)
    other = Summary(summary(OTHER), "/tmp/clinvk-x")
    with pytest.raises(WireError, match="is that of another run"):
        Summary.load(other.dump(), record.run_id)


def test_a_record_is_none_where_others_can_enter_it(records: Records) -> None:
    record, _ = make(records)
    record.path.chmod(0o750)
    assert records.find(RUN) is None
    assert records.newest(9) == []


@pytest.mark.parametrize("run", ["", "..", ".keys", "../runs", "last"])
def test_a_name_that_is_none_of_a_run_finds_nothing(records: Records, run: str) -> None:
    make(records)
    assert records.find(run) is None


def test_a_directory_where_others_write_is_not_used(records: Records) -> None:
    records.directory.mkdir()
    records.directory.chmod(0o777)
    with pytest.raises(PermissionError, match="others can write there"):
        records.of(RUN).create()


def test_a_file_system_without_locks_leaves_nothing(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(OSError, match="not supported"):
        records.of(RUN).create()
    assert list(records.directory.iterdir()) == []


def test_what_goes_on_is_not_removed(records: Records) -> None:
    record, lock_fd = make(records)
    with pytest.raises(UsageError, match=f"run {RUN} goes on: cancel it first"):
        records.remove(RUN)
    os.close(lock_fd)
    records.remove(RUN)
    assert not record.path.exists()
    with pytest.raises(UsageError, match=f"unknown run {RUN}"):
        records.remove(RUN)


def ended(records: Records, number: int, days: float = 0, size: int = 0) -> Record:
    run = f"20260102-0304{number:02d}-abcdef01"
    record, lock_fd = make(records, run, state="done", ended_ms=7)
    os.close(lock_fd)
    (record.path / "appendonlydir" / "x").write_bytes(b"x" * size)
    at = time.time() - days * 86400
    os.utime(record.path / "summary.json", (at, at))
    return record


@pytest.fixture
def three(records: Records) -> list[Record]:
    """Records of an old run, a newer one and a new one, the first of which is large."""
    return [ended(records, 1, 9, 5000), ended(records, 2, 6, 5000), ended(records, 3, 0, 500)]


def left(records: Records) -> list[str]:
    return [each.run.run_id[13:15] for each in records.newest(9)]


@pytest.mark.usefixtures("three")
def test_old_records_go(records: Records) -> None:
    records.clean()
    assert left(records) == ["03", "02"]


@pytest.mark.usefixtures("three")
def test_the_oldest_go_while_there_is_too_much(records: Records) -> None:
    replace(records, keep_bytes=4000).clean()
    assert left(records) == ["03"]


def test_what_is_locked_stays(records: Records, three: list[Record]) -> None:
    lock_fd = three[0].lock()
    records.clean()
    assert left(records) == ["03", "02", "01"]
    assert lock_fd is not None


@pytest.mark.usefixtures("three")
def test_cleaning_is_done_now_and_then_and_some_at_a_time(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "CLEAN_LIMIT", 1)
    everything = replace(records, keep_bytes=0)
    everything.clean()
    assert left(records) == ["03", "02"]
    everything.clean()
    assert left(records) == ["03", "02"]
    (records.directory / ".cleaned").unlink()
    everything.clean()
    assert left(records) == ["03"]


def test_a_key_stands_for_a_run(records: Records) -> None:
    key = records.key("nightly/1 \udc80")
    assert key.read() is None
    key.write(RUN, "d1")
    key.release()
    key.release()
    again = records.key("nightly/1 \udc80")
    assert again.read() == (RUN, "d1")
    again.write(OTHER, "d")
    assert again.read() == (OTHER, "d")
    again.release()
    other = records.key("nightly/2")
    assert other.read() is None
    other.release()


def test_a_snapshot_takes_the_place_of_what_was_appended(records: Records) -> None:
    record, _ = make(records)
    (record.path / "appendonlydir" / "appendonly.aof.1.incr.aof").write_text("long " * 99)
    (record.path / "dump.rdb").write_text("short")
    record.keep_snapshot()
    base, end = record.aof_files()
    assert (base.read_text(), end.read_text()) == ("short", "")
    names = {path.name for path in (record.path / "appendonlydir").iterdir()}
    assert names == {base.name, end.name, "appendonly.aof.manifest"}


def test_a_copy_links_what_is_not_at_the_end(records: Records, tmp_path: Path) -> None:
    record, _ = make(records)
    (record.path / "dump.rdb").write_text("base")
    record.keep_snapshot()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    record.copy_to(scratch)
    copied = scratch / "appendonlydir"
    links = {path.name: path.is_symlink() for path in copied.iterdir()}
    assert links == {
        "appendonly.aof.2.base.rdb": True,
        "appendonly.aof.2.incr.aof": False,
        "appendonly.aof.manifest": False,
    }


def test_a_thousand_runs_are_listed_from_their_summaries_alone(records: Records) -> None:
    """No server and no lock is needed for those that have ended."""
    record, lock_fd = make(records, state="done", ended_ms=7)
    os.close(lock_fd)
    text = json.loads((record.path / "summary.json").read_text())
    for number in range(1000):
        run = f"20260102-04{number // 60:02d}{number % 60:02d}-abcdef01"
        folder = records.directory / run
        folder.mkdir(mode=0o700)
        text["run"]["run_id"] = run
        (folder / "summary.json").write_text(json.dumps(text))
    assert len(records.newest(2000)) == 1001
