"""`clinvk conflicts`: which tasks' changes do not go together, found by trying."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clinvk.local import reach
from clinvk.store.store import Store
from tests.unit.commands.changed_run import RUN, ChangedRun, delete, each, folder, line, write
from tests.unit.fake_fleet import Clinvk


@pytest.fixture
def run(
    tmp_path: Path, store: Store, clinvk: Clinvk, monkeypatch: pytest.MonkeyPatch
) -> ChangedRun:
    found = ChangedRun(tmp_path, store)
    monkeypatch.setattr(reach, "has_run", found.has_run)
    monkeypatch.chdir(found.top)
    return found


def test_pairs_and_files(run: ChangedRun, clinvk: Clinvk) -> None:
    run.task(line(3, "first"))
    run.task(line(20, "second"))
    run.task(each(line(3, "third"), write("new", "third")))
    write("notes", "mine")(run.top)  # the last tasks begin with other files than the first
    run.task(write("new", "fourth"))
    run.task(each(delete("a"), folder("a"), write("a/b", "x")))
    run.record()
    write("a", "mine")(run.top)
    done = clinvk("conflicts", RUN)
    assert done.status == 1
    first, second, third = done.stdout.splitlines()
    assert (first, second) == ("[1] and [3]: README", "[3] and [4]: new")
    assert third.startswith("[5] and your checkout: a")
    told = json.loads(clinvk("conflicts", RUN, "--json").stdout)
    assert told["tasks"] == [0, 1, 2, 3, 4]
    assert told["conflicts"] == [
        {"tasks": [0, 2], "files": ["README"]},
        {"tasks": [2, 3], "files": ["new"]},
    ]
    assert [found["task"] for found in told["with_checkout"]] == [4]


def test_none(run: ChangedRun, clinvk: Clinvk) -> None:
    run.task(line(3, "first"))
    run.task(line(20, "second"))
    run.record()
    done = clinvk("conflicts", RUN)
    assert (done.status, done.stdout) == (0, "no conflicts among 2 tasks with changes\n")
