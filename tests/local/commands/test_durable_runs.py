"""Local runs that stay: read after their end, detached, interrupted by any kill, and resumed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from clinvk.local.records import Record, Records
from tests import harness

pytestmark = pytest.mark.usefixtures("temporary")

WORK = """read -r n s; echo "start $n" >> {log}
if [ "$s" = go ]; then while ! [ -e {log}.go ]; do sleep 0.05; done; else sleep "$s"; fi
echo "end $n" >> {log}; echo "did $n"
"""


@dataclass
class Home:
    """A user's home, with a CLI that writes down what it does."""

    folder: Path

    @property
    def records(self) -> Records:
        return Records(Path(os.environ["HOME"], ".clinvk", "runs"))

    def write(self, *names: str, **more: object) -> list[str]:
        """Write a task file, and return the arguments that run it.

        `name-SECONDS` takes so long, `name-go` until `go`.
        """
        log, config = self.folder / "log", self.folder / "config.yaml"
        command = ["sh", "-c", WORK.format(log=log)]
        config.write_text(json.dumps({"backends": {"work": {"command": command}}}))
        tasks = [{"backend": "work", "prompt": name.replace("-", " ")} for name in names]
        (self.folder / "tasks.json").write_text(json.dumps({"tasks": tasks} | more))
        return ["-f", str(self.folder / "tasks.json"), "--config", str(config)]

    @property
    def config(self) -> list[str]:
        """The argument that names the configuration."""
        return ["--config", str(self.folder / "config.yaml")]

    def go(self) -> None:
        """Let the tasks end that wait for it."""
        (self.folder / "log.go").touch()

    def run(self, *arguments: str) -> harness.Completed:
        config = ["--config", str(self.folder / "config.yaml")]
        return harness.clinvk(*arguments, *([] if "--config" in arguments else config))

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def begun(self) -> Counter[str]:
        """How often each task was started."""
        return self._logged("start")

    def finished(self) -> Counter[str]:
        """How often each task came to its end."""
        return self._logged("end")

    def _logged(self, word: str) -> Counter[str]:
        try:
            lines = (self.folder / "log").read_text().splitlines()
        except OSError:
            return Counter()
        return Counter(name for kind, name in map(str.split, lines) if kind == word)

    def record(self) -> Record:
        (found,) = self.records.newest(2)
        return self.records.of(found.run.run_id)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@contextlib.contextmanager
def started(home: Home, *names: str, max_parallel: int = 2) -> Iterator[subprocess.Popen[str]]:
    arguments = home.write(*names, max_parallel=max_parallel)
    process = subprocess.Popen(
        [*harness.CLINVK, "parallel", *arguments, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def tree(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All processes of a run: client, supervisor, server, workers, and commands of tasks."""
    client = psutil.Process(process.pid)
    return [client, *client.children(recursive=True)]


def kill_all(process: subprocess.Popen[str]) -> None:
    """What a power cut does to processes: all end at once, without a word."""
    for each in (found := tree(process)):
        with contextlib.suppress(psutil.Error):
            each.suspend()  # nobody sees another's end
    for each in found:
        with contextlib.suppress(psutil.Error):
            each.kill()
    process.wait()


def results_of(document: Any) -> list[tuple[int, str, str | None]]:
    return [(each["index"], each["status"], each.get("output")) for each in document["results"]]


@contextlib.contextmanager
def ending(record: Record) -> Iterator[socket.socket]:
    """Make a run go on whose server accepts connections and answers over none of them any more."""
    lock_fd = record.lock()
    assert lock_fd is not None
    directory = Path(record.summary().socket_directory)
    directory.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "server.sock"))
        listening.listen()
        listening.settimeout(harness.TIMEOUT_SECONDS)
        yield listening
    shutil.rmtree(directory)
    os.close(lock_fd)


@pytest.mark.parametrize("command", ["attach", "results"])
def test_a_run_that_ends_as_its_server_is_asked_is_read_from_its_record(
    command: str, home: Home
) -> None:
    home.run("parallel", *home.write("a-0"))
    record = home.record()
    with ending(record) as listening:
        asking = subprocess.Popen(
            [*harness.CLINVK, command, record.run_id, "--json", *home.config],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2):  # the first only shows that it listens
            listening.accept()[0].close()
    said, _ = asking.communicate(timeout=harness.TIMEOUT_SECONDS)
    assert asking.returncode == 0
    assert results_of(json.loads(said)) == [(0, "ok", "did a")]


def test_a_detached_run_goes_on_without_its_client(home: Home) -> None:
    done = home.run("parallel", *home.write("a-go", "b-go"), "--detach")
    run = done.stdout.strip()
    assert home.json("status", run)["state"] == "running"
    home.go()
    document = home.json("attach", run)
    assert results_of(document) == [(0, "ok", "did a"), (1, "ok", "did b")]
    harness.wait_until(lambda: not home.record().is_alive(), "the supervisor to end")
    assert home.json("runs")[0]["state"] == "done"


def test_a_run_that_has_ended_is_there(home: Home) -> None:
    done = home.run("parallel", *home.write("a-0", "b-0"), "--json")
    document = json.loads(done.stdout)
    (listed,) = home.json("runs")
    assert (listed["run_id"], listed["state"]) == (document["run_id"], "done")
    assert home.json("results", "last")["results"] == document["results"]


def test_a_run_whose_processes_were_killed_goes_on(home: Home) -> None:
    with started(home, "a-0", "b-go") as client:
        harness.wait_until(lambda: home.finished() == Counter("a"), "a to end")
        harness.wait_until(lambda: home.begun() == Counter("ab"), "b to begin")
        kill_all(client)
    assert home.json("status", "last")["state"] == "interrupted"
    home.go()
    assert results_of(home.json("resume", "last")) == [(0, "ok", "did a"), (1, "ok", "did b")]
    assert home.begun()["b"] == 2
