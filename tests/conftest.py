"""What the tests of all tiers share: a clean home, and rules that every test must keep."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from clinvk.store import failure_detector
from clinvk.store import leases as leases_module
from clinvk.store.failure_detector import Server
from clinvk.store.store import Store
from tests import harness

# How long an example takes says more about what else the machine does than about the code.
# `tests/system/fuzz` has many more examples.
settings.register_profile(
    "clinvk", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("clinvk")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--server",
        metavar="PROGRAM",
        help="the Redis or Valkey server to test with, in place of clinvk's own choice",
    )


def pytest_configure(config: pytest.Config) -> None:
    given = config.getoption("--server")
    if given is not None:
        program = shutil.which(given)
        if program is None:
            raise pytest.UsageError(f"--server: {given} is not an executable file")
        os.environ[harness.TEST_SERVER] = str(Path(program).absolute())


# A shell starts what stands before `&` with SIGINT and SIGQUIT ignored, and nohup ignores SIGHUP.
# All that the tests start would inherit that, and wait for ever where a test presses Ctrl-C.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        is_interrupt = number is signal.SIGINT
        signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)


# Where Python is told to keep no bytecode, each of the thousands of processes that the tests start
# would compile clinvk again, and so would each process of pytest the tests.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    sys.dont_write_bytecode = False


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Homes that no test has used."""
    folder = tmp_path_factory.mktemp("homes")
    return ((folder / str(number)) for number in itertools.count())


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, _homes: Iterator[Path]) -> Iterator[None]:
    """No test sees, or writes to, the configuration of whoever runs it."""
    for name in harness.clinvk_variables():
        monkeypatch.delenv(name)
    home = next(_homes)
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    yield
    with contextlib.suppress(OSError):  # most are empty; pytest removes the others in the end
        home.rmdir()


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A TMPDIR with a short path, as sockets need; no process and no file in it may be left."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as name:
        directory = Path(name).resolve()
        monkeypatch.setenv("TMPDIR", str(directory))
        monkeypatch.setattr("tempfile.tempdir", str(directory))
        yield directory
        harness.wait_until(
            lambda: not harness.of_directory(str(directory)), "all processes of the test to end"
        )
        assert [path.name for path in directory.iterdir()] == []


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that have run out as soon as they are given, and whose owners are gone."""
    monkeypatch.setattr(Store, "server", lambda _: Server("server", 1, None))
    monkeypatch.setattr(failure_detector, "loss_reason", lambda *_: "its worker ended")
    monkeypatch.setattr(leases_module, "LEASE_MS", 0)
    monkeypatch.setattr(leases_module, "CLAIM_TIMEOUT_MS", 0)
    monkeypatch.setattr(leases_module, "COMPLETE_AFTER_MS", 0)
