"""The fixtures of tests that need neither a server nor a process."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fakeredis
import pytest

from clinvk.cli.main import main
from clinvk.local import reach
from clinvk.store.store import Store
from tests import documents, harness
from tests.harness import Completed as Ended
from tests.unit.fake_fleet import Clinvk, FakeFleet


@pytest.fixture
def redis_client() -> Iterator[fakeredis.FakeRedis]:
    """An empty Redis in this process; at the end each of our keys must have a lifetime."""
    client = fakeredis.FakeRedis()
    yield client
    assert harness.keys_without_lifetime(client) == []


@pytest.fixture
def model_examples() -> int:
    """Few: Lua in Python is slow, and the same model runs over a real server."""
    return 4


@pytest.fixture
def store(redis_client: fakeredis.FakeRedis) -> Store:
    """A store over it."""
    return Store(redis_client)


@pytest.fixture
def east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine is in a zone two hours east of Greenwich."""
    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeFleet:
    found = FakeFleet()
    monkeypatch.setattr(reach, "connect", found.connect)
    return found


@pytest.fixture
def clinvk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Clinvk:
    """Run `clinvk ARGUMENTS` in an empty directory; returns status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: str | bytes | None = "") -> Ended:
        content = stdin.encode() if isinstance(stdin, str) else stdin or b""
        pipe = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
        if stdin is None:
            monkeypatch.setattr(pipe.buffer, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stdin", pipe)
        monkeypatch.setattr(sys, "argv", ["clinvk", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        printed = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        documents.check(arguments, printed.out)
        return Ended(exit_.value.code, printed.out, printed.err)

    return run
