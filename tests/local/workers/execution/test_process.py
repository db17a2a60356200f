"""A command runs to its end, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from clinvk.backends.base import Command, ProcessResult
from tests import harness
from workers.execution import process_tree
from workers.execution.capture import Stdout
from workers.execution.monitor import Monitor
from workers.execution.process import OutputLimits, run
from workers.execution.spill import Spill
from workers.execution.stop_signal import StopSignal

PYTHON = sys.executable
MARKER = "test-run:0:1"


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[str]:
    """A marker of this test's own; no process may carry it when the test ends."""
    name = f"{tmp_path.name}-{os.getpid()}:0:1"
    yield name
    assert process_tree.tagged(process_tree.TASK_TAG, name) == []


@pytest.fixture
def execute(tmp_path: Path, marker: str) -> Callable[..., ProcessResult]:
    def execute_(
        code: str,
        stdin: bytes = b"",
        timeout_seconds: float | None = None,
        stop: StopSignal | None = None,
        output_bytes: int = 1000,
        spill_bytes: int = 100_000,
        grace: float = 5.0,
        **more: Any,
    ) -> ProcessResult:
        with stop or StopSignal() as signal_:
            return run(
                Command(argv=[PYTHON, "-c", code], stdin=stdin),
                inherited=os.environb,
                tags={process_tree.TASK_TAG: marker},
                stop=signal_,
                limits=OutputLimits(
                    output_bytes=output_bytes,
                    spill_bytes=spill_bytes,
                    spill=Spill(directory=tmp_path / "spill"),
                ),
                cwd=str(tmp_path),
                timeout_seconds=timeout_seconds,
                term_grace_seconds=grace,
                **more,
            )

    return execute_


Execute = Callable[..., ProcessResult]


def test_output_code_and_directory_are_the_commands_own(execute: Execute, tmp_path: Path) -> None:
    finished = execute(
        "import os, sys; print(os.getcwd()); print('no', file=sys.stderr); sys.exit(7)"
    )
    assert finished.returncode == 7
    assert finished.stdout.text() == f"{tmp_path}\n"
    assert finished.stderr.text() == "no\n"
    assert finished.stopped_by is None
    assert not finished.orphans


def test_prompt_of_many_megabytes_arrives_whole_and_stdin_ends(execute: Execute) -> None:
    prompt = os.urandom(5_000_000)
    finished = execute(
        "import hashlib, sys; print(hashlib.sha1(sys.stdin.buffer.read()).hexdigest())", prompt
    )
    import hashlib

    assert finished.stdout.text().strip() == hashlib.sha1(prompt).hexdigest()


def test_a_command_that_never_reads_its_prompt_is_not_waited_for(execute: Execute) -> None:
    assert execute("print('done')", b"x" * 5_000_000).stdout.text() == "done\n"


def test_death_by_signal_is_told_as_such(execute: Execute) -> None:
    finished = execute("import os; os.kill(os.getpid(), 9)")
    assert finished.returncode == -signal.SIGKILL
    assert finished.stopped_by is None


def test_deadline_ends_a_sleeper(execute: Execute) -> None:
    finished = execute("import time; time.sleep(600)", timeout_seconds=0.2)
    assert finished.stopped_by == "timeout"
    assert finished.returncode == -signal.SIGTERM


def test_deadline_kills_what_ignores_term_and_says_so_whatever_the_code(execute: Execute) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which a command inherits
    try:
        finished = execute("import time; time.sleep(600)", timeout_seconds=0.3, grace=0.3)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert finished.stopped_by == "timeout"
    assert finished.returncode == -signal.SIGKILL
    polite = execute(
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); time.sleep(600)",
        timeout_seconds=0.5,
    )
    assert polite.stopped_by == "timeout"
    assert polite.returncode in {0, -signal.SIGTERM}


def test_a_command_that_writes_nothing_for_too_long_is_stopped(execute: Execute) -> None:
    finished = execute("import time; time.sleep(600)", stall_seconds=0.3)
    assert (finished.stopped_by, finished.returncode) == ("stalled", -signal.SIGTERM)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_silence_is_counted_from_the_last_output(execute: Execute, stream: str) -> None:
    code = f"import sys, time; time.sleep(0.5); print('said', file=sys.{stream}, flush=True)"
    finished = execute(f"{code}; time.sleep(600)", stall_seconds=2.0)
    assert finished.stopped_by == "stalled"
    assert finished.duration_seconds >= 2.5
    assert getattr(finished, stream).text() == "said\n"


def test_output_that_grows_at_each_look_is_no_silence() -> None:
    looks = 0

    def look() -> int:
        nonlocal looks
        looks += 1
        return min(looks, 5)

    with (
        subprocess.Popen(["sleep", "600"], start_new_session=True) as process,
        StopSignal() as stop,
    ):
        monitor = Monitor(process, look, stop, deadline=None, stall_seconds=0.01, grace_seconds=5.0)
        assert monitor.wait() == "stalled"
    assert looks >= 6


ASKS = """
import pathlib, time
print("one", flush=True)
while not pathlib.Path("go").exists():
    time.sleep(0.01)
print("two")
"""


def test_output_is_passed_on_while_the_command_runs(execute: Execute, tmp_path: Path) -> None:
    pieces: list[bytes] = []

    def take(piece: bytes) -> None:
        pieces.append(piece)
        (tmp_path / "go").touch()

    finished = execute(ASKS, on_output=take, timeout_seconds=60)
    assert (pieces, finished.stopped_by) == ([b"one\n", b"two\n"], None)


def test_a_flood_over_the_limit_is_passed_on_to_its_end(execute: Execute) -> None:
    pieces: list[bytes] = []
    code = "for n in range(300_000): print(f'{n:09}', flush=n % 1000 == 0)"
    finished = execute(code, on_output=pieces.append, spill_bytes=100_000)
    assert b"".join(pieces).endswith(b"\n000299999\n")
    assert finished.stdout.path is not None
    assert finished.stdout.path.stat().st_size == 100_000


def test_a_stop_signal_ends_a_command_from_another_thread(execute: Execute, tmp_path: Path) -> None:
    stop = StopSignal()
    started = tmp_path / "started"

    def cancel() -> None:
        while not started.exists():
            threading.Event().wait(0.01)
        stop.set("canceled")
        stop.set("timeout")  # the first reason counts

    threading.Thread(target=cancel).start()
    finished = execute(
        "import pathlib, time; pathlib.Path('started').touch(); time.sleep(600)", stop=stop
    )
    assert finished.stopped_by == "canceled"


SESSION_OF_ITS_OWN = """
import os, sys, time
has_begun, begins = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.write(begins, b".")
        time.sleep(600)
    os._exit(0)
os.wait()
os.read(has_begun, 1)
time.sleep({})
"""


def test_what_escaped_into_a_session_of_its_own_is_ended_with_the_command(
    execute: Execute,
) -> None:
    finished = execute(SESSION_OF_ITS_OWN.format(600), timeout_seconds=3.0)
    escaped = int(finished.stdout.text())
    assert not psutil.pid_exists(escaped)
    assert finished.stopped_by == "timeout"


def test_what_a_command_left_behind_is_ended_and_reported(execute: Execute) -> None:
    finished = execute(SESSION_OF_ITS_OWN.format(0))
    assert finished.returncode == 0
    assert finished.orphans
    assert not psutil.pid_exists(int(finished.stdout.text()))


STARTS_ITS_SUCCESSOR = """
import os, pathlib, time
if os.fork() == 0:
    os.setsid()
    pathlib.Path("daemon").write_text(str(os.getpid()))
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
while not pathlib.Path("daemon").exists() or not pathlib.Path("daemon").read_text():
    time.sleep(0.01)
"""


def test_a_daemon_that_is_replaced_while_it_is_looked_for_is_ended(
    execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = process_tree.tagged

    def slowly(name: str, value: str) -> list[psutil.Process]:
        """Find what was there when the look began, and has not ended when its turn comes."""
        if (tmp_path / "go").exists():
            return look(name, value)
        before = {process.pid for process in look(name, value)}
        (tmp_path / "go").touch()
        daemon = int((tmp_path / "daemon").read_text())
        harness.wait_until(lambda: not harness.running(daemon), "the daemon to be replaced")
        return [process for process in look(name, value) if process.pid in before]

    monkeypatch.setattr(process_tree, "tagged", slowly)
    assert execute(STARTS_ITS_SUCCESSOR).orphans  # the marker's fixture looks for the rest


OWN_CHILD = """
import subprocess
from workers.execution import process_tree
process_tree.become_subreaper()
child = subprocess.Popen(["sleep", "600"])
before = process_tree.orphans_alive()
process_tree.exempt(child.pid)
print(before, process_tree.orphans_alive())
child.kill()
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere orphans cannot be told apart")
def test_a_child_of_the_workers_own_is_no_reason_to_look_for_orphans() -> None:
    asked = subprocess.run([PYTHON, "-c", OWN_CHILD], capture_output=True, text=True, check=True)
    assert asked.stdout == "True False\n"


def test_a_background_child_that_holds_the_pipes_does_not_hold_the_task(execute: Execute) -> None:
    finished = execute(
        "import subprocess; print(subprocess.Popen(['sleep', '600']).pid, flush=True)"
    )
    assert finished.orphans
    assert not psutil.pid_exists(int(finished.stdout.text()))


def test_output_over_the_cap_is_spilled_whole(execute: Execute) -> None:
    finished = execute("print('x' * 50_000); print('the end')")
    assert finished.stdout.size == 50_009
    assert finished.stdout.head == b"x" * 1000
    assert finished.stdout.path is not None
    assert finished.stdout.path.read_bytes() == b"x" * 50_000 + b"\nthe end\n"
    assert finished.stdout.path.stat().st_mode & 0o777 == 0o600
    assert list(finished.stdout.lines()) == ["x" * 50_000, "the end"]


def test_the_spill_has_a_limit_and_the_flood_is_read_to_its_end(execute: Execute) -> None:
    finished = execute("for _ in range(300): print('y' * 1023)", spill_bytes=100_000)
    assert finished.returncode == 0
    assert finished.stdout.size == 300 * 1024
    assert finished.stdout.path is not None
    assert finished.stdout.path.stat().st_size == 100_000


def test_a_full_disk_costs_the_rest_of_the_output_not_the_task(
    execute: Execute, tmp_path: Path
) -> None:
    (tmp_path / "spill").write_text("in the way of the directory")
    finished = execute("print('z' * 5000)")
    assert finished.returncode == 0
    assert finished.stdout.size == 5001
    assert finished.stdout.path is None


def test_of_stderr_the_end_is_kept(execute: Execute) -> None:
    finished = execute(
        "import sys\nfor n in range(200_000): print('line', n, file=sys.stderr)\nsys.exit(1)"
    )
    assert finished.stderr.text().endswith("line 199999\n")
    assert len(finished.stderr.head) <= 1 << 18


def test_bytes_that_are_no_text_are_replaced(execute: Execute) -> None:
    finished = execute("import sys; sys.stdout.buffer.write(b'a\\xff\\x00b')")
    assert finished.stdout.text() == "a\ufffd\0b"


def test_a_program_that_is_not_there_raises(tmp_path: Path, marker: str) -> None:
    with StopSignal() as stop, pytest.raises(FileNotFoundError):
        run(
            Command(argv=["/no/such/program"], stdin=b""),
            inherited={},
            tags={process_tree.TASK_TAG: marker},
            stop=stop,
            limits=OutputLimits(spill=Spill(directory=tmp_path)),
        )


class BrokenSignal(StopSignal):
    """Cannot be waited for."""

    def fileno(self) -> int:
        raise OSError("no descriptor")


@pytest.mark.parametrize("timeout_seconds", [None, "not a number"])
def test_whatever_goes_wrong_while_it_is_watched_the_command_is_ended(
    execute: Execute, timeout_seconds: Any
) -> None:
    stop = BrokenSignal() if timeout_seconds is None else StopSignal()
    with pytest.raises((OSError, TypeError)):
        execute("import time; time.sleep(600)", timeout_seconds=timeout_seconds, stop=stop)


def test_output_that_cannot_be_looked_at_ends_the_command(
    execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Stdout) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Stdout, "trim", fail)
    with pytest.raises(OSError, match="Input/output error"):
        execute("import time; time.sleep(600)")


TWO_TASKS = """
import os, sys, threading, time
from pathlib import Path
from clinvk.backends.base import Command
from tests import escape, harness
from workers.execution import orphans, process_tree
from workers.execution.process import OutputLimits, run
from workers.execution.spill import Spill
from workers.execution.stop_signal import StopSignal

folder = Path(sys.argv[1])
process_tree.become_subreaper()
results = {}

def task(name, prompt):
    with StopSignal() as stop:
        results[name] = run(
            Command(argv=escape.COMMAND, stdin=prompt.encode()),
            inherited=os.environb,
            tags={process_tree.TASK_TAG: f"{folder.name}-{os.getpid()}:{name}:1"},
            stop=stop,
            limits=OutputLimits(spill=Spill(directory=folder / "spill")),
            timeout_seconds=2.0 if prompt.startswith("stay") else None,
        )

older = threading.Thread(target=task, args=("older", f"stay {folder}/older"))
older.start()
escape.escaped(folder / "older")
other = threading.Thread(target=task, args=("younger", f"leave {folder}/younger"))
other.start()
other.join()
younger = escape.escaped(folder / "younger")
print("the younger one's, after it:", harness.running(younger), results["younger"].orphans)
older.join()
print("both, after the older:", harness.running(younger),
      harness.running(escape.escaped(folder / "older")))
other = threading.Thread(target=task, args=("alone", f"leave {folder}/alone"))
other.start()
other.join()
print("of one alone:", harness.running(escape.escaped(folder / "alone")), results["alone"].orphans)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere orphans cannot be told apart")
def test_what_has_no_tag_ends_with_the_last_task_that_it_may_be_of(tmp_path: Path) -> None:
    asked = subprocess.run(
        [PYTHON, "-c", TWO_TASKS, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert asked.stderr == ""
    assert asked.stdout.splitlines() == [
        "the younger one's, after it: True False",
        "both, after the older: False False",
        "of one alone: False True",
    ]
