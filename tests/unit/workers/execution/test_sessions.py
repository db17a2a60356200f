"""What is kept of the sessions of CLIs: where, for how long, and that nothing else is removed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from clinvk.backends.base import Session, SessionTraces
from clinvk.backends.configured import Configured
from clinvk.core.spec import TaskResult
from clinvk.store.types import Lease
from tests import harness
from workers.execution import sessions
from workers.execution.sessions import NOTHING_KEPT, Kept, SessionStore
from workers.observers import RunCanceled, RunEnded, TaskEnded, TaskReleased, WorkerStarted

RUN, ID = "20260102-030405-abcdef01", "11111111-2222-3333-4444-555555555555"
OTHER_ID = "11111111-9999-3333-4444-555555555555"
LEASE = Lease(RUN, 0, 1)
KEEP, RESUME = Session(keep=True), Session(keep=True, resume=ID)


class Cli(Configured):
    """A CLI that keeps files by the beginning of a session's id, and more by its own command."""

    can_resume = True

    def __init__(self, command: tuple[str, ...] = ()) -> None:
        super().__init__("cli", ["cli"])
        self._forget = command

    def session_traces(self, session_id: str, environment: Mapping[str, str]) -> SessionTraces:
        del environment
        files = (f"~/own/*/session-{session_id[:8]}*", f"~/own/{session_id}")
        return SessionTraces(files=files, command=self._forget)


class Machine:
    """A home, and the stores of workers on it."""

    def __init__(self, folder: Path) -> None:
        self.base, self.home = folder / "state" / "sessions", folder / "home"
        self.over: set[str] = set()
        (self.home / "own" / "project").mkdir(parents=True)

    def store(self, worker: str = "w", *, is_passing: bool = False) -> SessionStore:
        return SessionStore(
            self.base, worker, is_passing=is_passing, is_over=self.over.__contains__
        )

    def run(
        self,
        store: SessionStore,
        session: Session = KEEP,
        *,
        lease: Lease = LEASE,
        backend: Cli | None = None,
        is_sandboxed: bool = False,
    ) -> Kept:
        """Run a CLI that says its id."""
        environment = {"HOME": str(self.home), "PATH": os.environ["PATH"], "SECRET": "secret"}
        with store.execution(
            lease, backend or Cli(), session, environment, is_sandboxed=is_sandboxed
        ) as kept:
            kept.named(ID)
            if kept.directory:
                (Path(kept.directory) / "0").mkdir(exist_ok=True)
                (Path(kept.directory) / "0" / "transcript").write_text("said")
        return kept

    def leave(self, name: str, session_id: str) -> Path:
        """Leave a file of a session in the home."""
        path = self.home / "own" / "project" / name
        path.write_text(f'{{"id": "{session_id}"}}\n')
        return path

    def is_empty(self) -> bool:
        return all(path.name == sessions.LOCK for path in self.base.glob("*/*"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def ended(lease: Lease = LEASE) -> TaskEnded:
    return TaskEnded(lease, TaskResult.unknown(lease.index, "x"))


def test_nothing_is_kept_unless_it_is_asked(machine: Machine) -> None:
    store = machine.store()
    assert machine.run(store, Session()) is NOTHING_KEPT
    with store.execution(LEASE, Configured("x", ["x"]), KEEP, {}, is_sandboxed=False) as kept:
        assert kept is NOTHING_KEPT
    assert not machine.base.exists()


def test_a_sandboxed_session_is_kept_for_the_next_execution_of_its_task(machine: Machine) -> None:
    store = machine.store()
    first = machine.run(store, is_sandboxed=True)
    assert first.directory is not None
    assert Path(first.directory).stat().st_mode & 0o777 == 0o700
    assert store.is_kept(LEASE)
    assert not store.is_kept(Lease(RUN, 1, 1))
    again = machine.store()  # the worker was restarted
    assert again.is_kept(LEASE)
    assert machine.run(again, RESUME, is_sandboxed=True) == first
    assert machine.run(again, RESUME, lease=Lease(RUN, 1, 1), is_sandboxed=True) != first


def test_a_task_that_is_started_over_finds_nothing(machine: Machine) -> None:
    store = machine.store()
    kept = machine.run(store, is_sandboxed=True)
    environment = {"HOME": str(machine.home)}
    with store.execution(LEASE, Cli(), KEEP, environment, is_sandboxed=True) as again:
        assert again.directory == kept.directory
        assert not store.is_kept(LEASE)


@pytest.mark.parametrize("event", [ended(), TaskReleased(LEASE, "requeued"), RunEnded(RUN)])
def test_what_is_over_is_removed(machine: Machine, event: TaskEnded) -> None:
    store = machine.store()
    machine.run(store, is_sandboxed=True)
    store.saw(event)
    harness.wait_until(machine.is_empty, "it to be removed")


def test_what_runs_is_not_removed_with_its_run(machine: Machine) -> None:
    store = machine.store()
    held = Lease(RUN, 1, 1)
    machine.run(store, lease=held, is_sandboxed=True)
    with store.execution(LEASE, Cli(), KEEP, {}, is_sandboxed=True) as kept:
        store.saw(RunCanceled(RUN))
        assert kept.directory is not None
        assert Path(kept.directory).exists()
        assert not store.is_kept(held)
    store.close()


def test_only_the_files_of_the_session_are_removed(machine: Machine) -> None:
    store = machine.store()
    mine = machine.leave("session-11111111", ID)
    folder = machine.home / "own" / ID
    (folder / "deep").mkdir(parents=True)
    others = machine.leave("session-11111111-2", OTHER_ID), machine.leave("notes", ID)
    machine.run(store)
    store.saw(ended())
    harness.wait_until(machine.is_empty, "it to be removed")
    assert not mine.exists()
    assert not folder.exists()
    assert all(path.exists() for path in others)


def test_the_cli_removes_what_is_in_no_file_of_its_own(machine: Machine) -> None:
    done = machine.home / "done"
    store = machine.store()
    machine.run(store, backend=Cli(("sh", "-c", f"env > {done}")))
    (noted,) = machine.base.rglob(sessions.TRACES)
    assert "secret" not in noted.read_text()
    store.saw(ended())
    harness.wait_until(machine.is_empty, "it to be removed")
    assert f"HOME={machine.home}" in done.read_text()


def test_what_cannot_be_removed_now_is_tried_again(machine: Machine) -> None:
    store = machine.store()
    ready = machine.home / "ready"
    machine.run(store, backend=Cli(("test", "-e", str(ready))))
    store.saw(ended())
    store.close()
    assert not machine.is_empty()
    ready.touch()
    machine.store().sweep()
    assert machine.is_empty()


@pytest.mark.parametrize("said", ["*", "../../x", "-rf", "", "short", "x" * 200])
def test_an_id_that_is_none_is_not_believed(machine: Machine, said: str) -> None:
    store = machine.store()
    with store.execution(
        LEASE, Cli(), KEEP, {"HOME": str(machine.home)}, is_sandboxed=False
    ) as kept:
        kept.named(said)
    assert not store.is_kept(LEASE)


@pytest.mark.parametrize("said", ["*", "../../x", "--last", "", "a b", "x" * 200])
def test_what_is_no_id_is_not_gone_on_with(said: str) -> None:
    with pytest.raises(ValueError, match="no id of a session"):
        Session(resume=said)


def test_a_worker_that_starts_again_keeps_what_its_runs_still_need(machine: Machine) -> None:
    machine.run(machine.store(), is_sandboxed=True)
    machine.run(machine.store(), lease=Lease("over", 0, 1), is_sandboxed=True)
    machine.over = {"over"}
    again = machine.store()
    again.saw(WorkerStarted("w", 1, []))
    harness.wait_until(lambda: not again.is_kept(Lease("over", 0, 1)), "it to be removed")
    assert again.is_kept(LEASE)
    again.close()
    assert machine.store().is_kept(LEASE)


def test_the_worker_of_a_private_server_keeps_nothing_beyond_its_end(machine: Machine) -> None:
    store = machine.store(is_passing=True)
    machine.run(store, is_sandboxed=True)
    mine = machine.leave("session-11111111", ID)
    machine.run(store, lease=Lease(RUN, 1, 1))
    store.close()
    assert machine.is_empty()
    assert not mine.exists()


def test_what_dead_workers_left_is_removed_at_once_or_after_some_days(machine: Machine) -> None:
    lasting, local = machine.store("lasting"), machine.store("local", is_passing=True)
    for store in (lasting, local):
        machine.run(store, is_sandboxed=True)
        assert store._lock_fd is not None
    looking = machine.store("looking")
    looking.sweep()
    assert local.is_kept(LEASE), "it lives"
    for store in (lasting, local):  # as their processes end
        assert store._lock_fd is not None
        os.close(store._lock_fd)
    looking.sweep()
    assert not local.is_kept(LEASE)
    assert lasting.is_kept(LEASE)
    for place in machine.base.glob("*/*"):
        os.utime(place, (0, 0))
    looking.sweep()
    assert machine.is_empty()


def test_what_is_kept_of_one_run_can_be_removed(machine: Machine) -> None:
    store = machine.store()
    other = Lease("other", 0, 1)
    for lease in (LEASE, other):
        machine.run(store, is_sandboxed=True, lease=lease)
    sessions.remove_run(machine.base, RUN)
    assert not store.is_kept(LEASE)
    assert store.is_kept(other)
    sessions.remove_run(machine.base, "other")
    assert machine.is_empty()


def test_the_oldest_make_room(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_BYTES", 10)
    store = machine.store()
    for index in range(3):
        kept = machine.run(store, lease=Lease(RUN, index, 1), is_sandboxed=True)
        assert kept.directory is not None
        os.utime(kept.directory, (index, index))
    store.sweep()
    assert [store.is_kept(Lease(RUN, index, 1)) for index in range(3)] == [False, True, True]


def test_a_disk_that_is_full_costs_no_task(machine: Machine) -> None:
    machine.base.parent.write_text("no directory")
    assert machine.run(machine.store()) is NOTHING_KEPT


def test_what_is_noted_names_absolute_paths(machine: Machine) -> None:
    store = machine.store()
    machine.run(store)
    (noted,) = machine.base.rglob(sessions.TRACES)
    assert all(path.startswith("/") for path in json.loads(noted.read_text())["files"])
