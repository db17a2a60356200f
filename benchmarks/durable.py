"""Kill a local run at random moments, resume it, and count what was lost or paid twice.

Each seed is one run of a few tasks. Once it goes on, its client, supervisor, server, a worker, or
all of them at once are ended by SIGKILL, and so is, half of the times, what goes on with the run
after that. Then it is resumed to its end. Three records must agree: what the client printed before
it was killed, the log that the tasks themselves write, and the results of the run.

    python -m benchmarks durable --seeds 200
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from clinvk.local.reading import RecordStore, reading
from clinvk.local.records import Records
from clinvk.local.server import find_server

CLINVK = [sys.executable, "-m", "clinvk"]
WORK = """read -r n s; echo "start $n $EPOCHREALTIME" >> {log}
sleep "$s" || exit
echo "end $n $EPOCHREALTIME" >> {log}; echo "did $n"
"""
TASKS, AT_ONCE = 8, 3
VICTIMS = ("client", "supervisor", "server", "worker", "all")
WAIT_SECONDS = 90.0
KILLS_IN_SECONDS = 1.5
"""A kill comes so long after the first task began, at the latest."""


@dataclass
class Counts:
    """What became of the runs.

    `repeated` are tasks that came to their end as something was killed, just before, or while the
    rest took itself down, and were not recorded: no process can record what another does without
    any delay. They ran again. `repeated_at_kill` says how many seconds that was from the kill.
    """

    runs: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    paid_twice: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    repeated_at_kill: list[float] = field(default_factory=list)
    resume_seconds: list[float] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Return a line for each thing that must not be, with its seed."""
        return [
            f"{start} {what}"
            for what, starts in (
                ("is lost", self.lost),
                ("was paid twice", self.paid_twice),
                ("is left", self.left),
                ("are the outputs", self.wrong),
            )
            for start in starts
        ]


class KilledRun:
    """One run, in a home of its own."""

    def __init__(self, seed: int, folder: Path, counts: Counts) -> None:
        self._random = random.Random(seed)
        self._seed = seed
        self._counts = counts
        self._folder = folder
        self._log = folder / "log"
        self._environment = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder)}
        self._killed_at: list[float] = []
        self._records = Records(folder / ".clinvk" / "runs")
        config = {"backends": {"work": {"command": ["bash", "-c", WORK.format(log=self._log)]}}}
        (folder / "config.yaml").write_text(json.dumps(config))

    def carry_out(self) -> None:
        """Start the run, kill it, resume it to its end, and compare the records."""
        tasks = [
            {"backend": "work", "prompt": f"t{i} {self._random.uniform(0, 0.7):.2f}"}
            for i in range(TASKS)
        ]
        file = self._folder / "tasks.json"
        file.write_text(json.dumps({"tasks": tasks, "max_parallel": AT_ONCE}))
        printed = self._start("parallel", "--file", str(file))
        had = self._results()
        self._check_printed(printed, had)
        if self._random.random() < 0.5 and self._state() == "interrupted":
            printed = self._start("resume", "last")
            had |= self._results()
            self._check_printed(printed, had)
        began = time.monotonic()
        done = self._clinvk("resume", "last", "--json")
        self._counts.resume_seconds.append(time.monotonic() - began)
        self._check_end(json.loads(done.stdout), had)
        self._counts.runs += 1

    def _clinvk(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLINVK, *arguments, "--config", str(self._folder / "config.yaml")],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def _start(self, *arguments: str) -> str:
        """Start a command, kill something, and return what the command had printed."""
        begun = self._logged("start").total()
        output = self._folder / f"output-{arguments[0]}"
        with output.open("w") as stream:
            client = psutil.Popen(
                [*CLINVK, *arguments, "--config", str(self._folder / "config.yaml")],
                env={**self._environment, "PYTHONUNBUFFERED": "1"},
                stdout=stream,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        give_up_at = time.monotonic() + WAIT_SECONDS
        while client.poll() is None and time.monotonic() < give_up_at:
            if self._logged("start").total() > begun:
                break
            time.sleep(0.005)
        time.sleep(self._random.uniform(0, KILLS_IN_SECONDS))
        self._kill(client, self._random.choice(VICTIMS))
        self._wait(client)
        return output.read_text()

    def _kill(self, client: psutil.Popen, victim: str) -> None:
        found = roles(client)
        chosen = [p for each in found.values() for p in each] if victim == "all" else found[victim]
        if victim == "worker":
            chosen = self._random.sample(chosen, min(1, len(chosen)))
        self._killed_at.append(time.time())
        for process in chosen if victim == "all" else ():
            with contextlib.suppress(psutil.Error):
                process.suspend()  # none sees the end of another
        for process in chosen:
            with contextlib.suppress(psutil.Error):
                process.kill()
                self._counts.kills[victim] += 1

    def _wait(self, client: psutil.Popen) -> None:
        """Wait until the client has ended, and nobody has the run."""
        client.wait(WAIT_SECONDS)
        give_up_at = time.monotonic() + WAIT_SECONDS
        while self._state() == "running" and time.monotonic() < give_up_at:
            time.sleep(0.02)

    def _state(self) -> str:
        found = self._records.newest(1)
        return found[0].run.state if found else "none"

    def _logged(self, word: str) -> Counter[str]:
        try:
            lines = self._log.read_text().splitlines()
        except OSError:
            return Counter()
        return Counter(name for kind, name, _ in map(str.split, lines) if kind == word)

    def _note_repeated(self) -> None:
        """Note how far from a kill those tasks ended that ran to their end twice."""
        ends: dict[str, list[float]] = {}
        for kind, name, at in map(str.split, self._log.read_text().splitlines()):
            if kind == "end":
                ends.setdefault(name, []).append(float(at.replace(",", ".")))
        for name, (*early, _) in ends.items():
            for at in early:
                after = min((at - killed_at for killed_at in self._killed_at), key=abs)
                when = f"{abs(after):.3f} s {'after' if after > 0 else 'before'} a kill"
                self._counts.repeated.append(f"seed {self._seed}: {name} ended {when}")
                self._counts.repeated_at_kill.append(abs(after))

    def _results(self) -> dict[str, int]:
        """Return the tasks that have their result, each with how often it was started."""
        newest = self._records.newest(1)
        if not newest:
            return {}
        run, started = newest[0].run.run_id, self._logged("start")
        with (
            reading(self._records.of(run), find_server(None)) as url,
            closing(RecordStore.connect(url)) as store,
        ):
            found = [each for each in store.results(run, range(TASKS)) if each is not None]
        names = [(each.output or "")[4:].strip() for each in found if each.status == "ok"]
        return {name: started[name] for name in names}

    def _check_printed(self, printed: str, had: Mapping[str, int]) -> None:
        """What the client had printed is in the record."""
        for line in printed.splitlines():
            name = line.partition("did ")[2]
            if line.startswith("[") and name and name not in had:
                self._counts.lost.append(f"seed {self._seed}: {name}")

    def _check_end(
        self, document: Mapping[str, Sequence[Mapping[str, object]]], had: Mapping[str, int]
    ) -> None:
        outputs = [result.get("output") for result in document["results"]]
        if outputs != [f"did t{i}" for i in range(TASKS)]:
            self._counts.wrong.append(f"seed {self._seed}: {outputs}")
        started = self._logged("start")
        for name, starts in had.items():
            if started[name] != starts:
                self._counts.paid_twice.append(f"seed {self._seed}: {name}")
        self._note_repeated()
        self._counts.left += [f"seed {self._seed}: {name}" for name in left_in(self._folder)]


def roles(client: psutil.Popen) -> dict[str, list[psutil.Process]]:
    """Return the processes of a local run by what they are."""
    found: dict[str, list[psutil.Process]] = {name: [] for name in VICTIMS}
    found["client"].append(client)
    with contextlib.suppress(psutil.Error):
        for supervisor in client.children():
            found["supervisor"].append(supervisor)
            for child in supervisor.children():
                is_worker = "clinvk.local.supervisor" in child.cmdline()
                found["worker" if is_worker else "server"].append(child)
                found["all"] += child.children(recursive=True)
    return found


def left_in(folder: Path) -> list[str]:
    """Return the command lines of processes that belong to a folder's run."""
    found = []
    for _ in range(100):
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                is_its_own = process.environ().get("TMPDIR") == str(folder)
                is_alive = process.status() != psutil.STATUS_ZOMBIE
                if is_alive and (is_its_own or any(str(folder) in word for word in words)):
                    found.append(" ".join(words)[:80])
        if not found:
            return []
        time.sleep(0.05)
    return found


def kill_runs(seeds: Sequence[int], note: Callable[[str], object] = lambda _: None) -> Counts:
    """Carry out a run for each seed; `note` gets a line as each one has ended."""
    counts = Counts()
    for seed in seeds:
        kills = counts.kills.copy()
        with tempfile.TemporaryDirectory(prefix="k", dir="/tmp") as name:
            KilledRun(seed, Path(name), counts).carry_out()
        victims = ", ".join(
            f"{name} {count}" for name, count in sorted((counts.kills - kills).items())
        )
        more = [
            line
            for line in (*counts.repeated, *counts.problems())
            if line.startswith(f"seed {seed}: ")
        ]
        note("\n".join([f"seed {seed}: killed {victims or 'nothing'}", *more]))
    return counts


def measure(seeds: int = 200, first_seed: int = 0) -> Iterator[tuple[object, ...]]:
    """Yield what was lost, paid twice and left over all seeds; say of each what was killed."""
    counts = kill_runs(
        range(first_seed, first_seed + seeds), partial(print, file=sys.stderr, flush=True)
    )
    kills = ", ".join(f"{name} {count}" for name, count in sorted(counts.kills.items()))
    yield f"killed runs ({kills})", counts.runs, "runs"
    yield "results lost", len(counts.lost) + len(counts.wrong), "results"
    yield "tasks paid twice that had a result", len(counts.paid_twice), "tasks"
    repeated = counts.repeated_at_kill
    yield "tasks that ended as they were killed, and ran again", len(repeated), "tasks"
    yield "how far from the kill, at most", max(repeated, default=0.0), "s"
    yield "processes left", len(counts.left), "processes"
    yield "a resume, in the middle", sorted(counts.resume_seconds)[counts.runs // 2], "s"
