"""Tasks change a repository on machines that have no checkout of it, and workers are killed.

`python -m tests.system.fleet.worktrees --machines 10 --files 5000 --tasks 100` does it at large, as
root on Linux, and prints what was lost, left and sent; `test_worktrees.py` does it small.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests import harness
from tests.system.fleet.machines import Fleet, Machine
from tests.unit.git.checkouts import Tree, git, read_tree, repository
from workers.execution.worktrees.place import read_about

EDIT = """
import os, sys, time
n = int(sys.stdin.read())
with open(sys.argv[1], "a") as log:
    log.write(f"start {time.monotonic_ns()} {os.getpid()} {n}\\n")
time.sleep(float(sys.argv[2]))
with open(f"d{n % 10}/f{n}", "a") as file:
    file.write(f"task {n}\\n")
os.remove(f"d{n % 10}/g{n}")
with open(f"new{n}", "wb") as file:
    file.write(bytes(range(256)) * (n + 1))
os.chmod(f"new{n}", 0o755)
os.symlink(f"d{n % 10}/f{n}", f"link{n}")
print("changed", n)
"""
"""A CLI whose prompt is a number: what it changes is what no other number's changes."""


@dataclass
class Outcome:
    """What came of it."""

    statuses: dict[str, int] = field(default_factory=dict)
    attempts: int = 0
    lost_edits: int = 0
    is_identical: bool = False
    kills: int = 0
    worktrees_left: int = 0
    worktrees_kept: int = 0
    is_untouched: bool = False
    first_bytes: int = 0
    second_bytes: int = 0
    run_seconds: float = 0.0


class Scene:
    """A checkout with commits of its own and changes that are not committed, and some machines."""

    def __init__(self, fleet: Fleet, machines: int, files: int, tasks: int, seconds: float) -> None:
        self.fleet, self.tasks = fleet, tasks
        self.home = fleet.folder / "home"
        self.home.mkdir()
        command = [sys.executable, "-I", "-S", "-c", EDIT, str(fleet.log), str(seconds)]
        config = {"backends": {"edit": {"command": command}}}
        (fleet.folder / "config.json").write_text(json.dumps(config))
        self.top = repository(fleet.folder / "app", _files(files, tasks))
        (self.top / "d0/f0").write_text("not committed\n")
        (self.top / "untracked").write_bytes(os.urandom(1000))
        self.machines = [fleet.machine() for _ in range(machines)]
        self.workers: dict[str, Any] = {}
        self.started = 0
        for machine in self.machines:
            self.start(machine)

    def start(self, machine: Machine) -> None:
        self.started += 1
        home = self.fleet.folder / f"home-{machine.name}"
        home.mkdir(exist_ok=True)
        variables = {"HOME": str(home), "HOST_NAME_OF_MACHINE": machine.name}
        self.workers[machine.name] = self.fleet.worker(
            machine, 2, "edit", f"w{self.started}", variables
        )

    def kill(self, chance: random.Random) -> None:
        """Kill a worker in one of the ways in which it can die, and start another one there."""
        machine = chance.choice(self.machines)
        process = self.workers[machine.name]
        found = self.fleet.of_worker(process)
        match chance.choice(["worker", "supervisor", "all"]):
            case "worker" if len(found) > 1:
                found[1].kill()
            case "all":
                for each in found:
                    with contextlib.suppress(psutil.NoSuchProcess):  # it may end with its parent
                        each.kill()
            case _:
                found[0].kill()
        process.wait()
        self.start(machine)

    def clinvk(self, *arguments: str, stdin: str | None = None) -> harness.Completed:
        env = {**self.fleet.env, "HOME": str(self.home)}
        return harness.clinvk(*arguments, stdin=stdin, env=env, cwd=self.top)

    def submit(self) -> str:
        task = {"backend": "edit", "workspace": "worktree", "max_attempts": 50}
        lines = [json.dumps({**task, "prompt": str(number)}) for number in range(self.tasks)]
        parallel = str(2 * len(self.machines))
        done = self.clinvk(
            "parallel", "--detach", "--max-parallel", parallel, stdin="\n".join(lines)
        )
        assert done.status == 0, done.stderr
        return done.stdout.strip()

    def submit_changed(self) -> str:
        """Submit them again, after a little was changed."""
        with (self.top / "untracked").open("ab") as file:
            file.write(b"more")
        return self.submit()

    def sent_bytes(self) -> int:
        server = self.fleet.store.redis
        return sum(
            int(server.hstrlen(name, "content"))
            for name in server.scan_iter("clinvk:submission::piece:*")
        )

    def is_over(self, run: str) -> bool:
        summary = self.fleet.store.summary(run)
        return summary is not None and summary.state == "done"

    def results(self, run: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.clinvk("results", run, "--json").stdout)[
            "results"
        ]
        return found

    def left(self) -> tuple[int, int]:
        """How many worktrees are left, and how many of those are kept, since nothing has them."""
        states = [
            about.state if (about := read_about(path)) else ""
            for machine in self.machines
            for path in self.fleet.folder.glob(f"home-{machine.name}/.clinvk/worktrees/*/")
            if path.name != ".repositories"
        ]
        return len([state for state in states if state != "kept"]), states.count("kept")

    def expected(self) -> Tree:
        """What the checkout is to be with the changes of all tasks."""
        tree = read_tree(self.top)
        for n in range(self.tasks):
            name = f"d{n % 10}/f{n}".encode()
            kind, content = tree[name]
            tree[name] = (kind, content + f"task {n}\n".encode())
            del tree[f"d{n % 10}/g{n}".encode()]
            tree[f"new{n}".encode()] = ("program", bytes(range(256)) * (n + 1))
            tree[f"link{n}".encode()] = ("link", name)
        return tree


def play(scene: Scene, kills: int, every_seconds: float, seed: int = 1) -> Outcome:
    """Run the tasks while workers are killed, apply the changes, and run them again."""
    chance, outcome = random.Random(seed), Outcome()
    before = _state(scene.top)
    began = time.monotonic()
    run = scene.submit()
    outcome.first_bytes = scene.sent_bytes()
    harness.wait_until(scene.fleet.starts, "a task to begin", seconds=120)
    while outcome.kills < kills and not scene.is_over(run):
        scene.kill(chance)
        outcome.kills += 1
        threading.Event().wait(every_seconds)
    harness.wait_until(lambda: scene.is_over(run), "the end of the run", seconds=1800)
    outcome.run_seconds = time.monotonic() - began
    found = scene.results(run)
    for result in found:
        outcome.statuses[result["status"]] = outcome.statuses.get(result["status"], 0) + 1
        outcome.attempts += result.get("attempts", 1)
        if len(result.get("changed_files", ())) != 4:
            outcome.lost_edits += 1
    outcome.is_untouched = _state(scene.top) == before
    again = scene.submit_changed()
    outcome.second_bytes = scene.sent_bytes() - outcome.first_bytes
    expected = scene.expected()
    applied = scene.clinvk("apply", run, "--all-ok")
    outcome.is_identical = applied.status == 0 and read_tree(scene.top) == expected
    scene.clinvk("cancel", again)
    harness.wait_until(lambda: scene.is_over(again), "the second run", seconds=300)
    for machine in scene.machines:
        process = scene.workers[machine.name]
        process.send_signal(signal.SIGTERM)
        process.wait()
        scene.start(machine)  # it looks at what those before it left
    with _patience():
        harness.wait_until(lambda: scene.left()[0] == 0, "worktrees to be removed")
    outcome.worktrees_left, outcome.worktrees_kept = scene.left()
    return outcome


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Go on where something does not come: the outcome says so."""
    try:
        yield
    except AssertionError as error:
        print(error, file=sys.stderr)


def _state(top: Path) -> tuple[Tree, str, str]:
    return read_tree(top), git(top, "for-each-ref"), git(top, "count-objects", "-v")


def _files(count: int, tasks: int) -> dict[str, str]:
    names = [f"d{number % 10}/f{number}" for number in range(max(count, tasks))]
    names += [f"d{number % 10}/g{number}" for number in range(tasks)]
    return {name: "".join(f"{os.urandom(16).hex()}\n" for _ in range(40)) for name in names}


def main() -> None:
    """Play it at large and print the outcome as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"machines": 10, "files": 5000, "tasks": 100, "kills": 20}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    wanted = parser.parse_args()
    harness.TIMEOUT_SECONDS = 900.0  # of each command: many changes are applied
    with tempfile.TemporaryDirectory(prefix="worktrees-") as folder:
        fleet = Fleet(Path(folder))
        try:
            scene = Scene(fleet, wanted.machines, wanted.files, wanted.tasks, 2.0)
            outcome = play(scene, wanted.kills, 1.0)
        finally:
            fleet.close()
    print(json.dumps(vars(outcome), indent=2))


if __name__ == "__main__":
    main()
