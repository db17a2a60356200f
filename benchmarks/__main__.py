"""Measure clinvk against floors and peers on this machine: `python -m benchmarks [NAME…]`.

Each figure is a ratio to a floor or a peer measured in the same run, because machines are shared
and noisy: the medians of rounds in which floor and clinvk take turns. Installs nothing; a peer
that is not there is left out. Prints a table, and with `--json FILE` writes the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import psutil

from benchmarks.records import MissingError

CLINVK = [sys.executable, "-m", "clinvk"]
DIGITS = {"s": 3, "ms": 1, "per task": 2}
CONFIG = "backends: {noop: {command: [/bin/true]}}\n"


@dataclass(frozen=True)
class Figure:
    """One line of the table; `value` and `against` are in `unit`, `ratio` is value / against."""

    name: str
    value: float
    unit: str
    against: float | None = None
    floor: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.against if self.against else None


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def command(argv: Sequence[str], **options: object) -> Callable[[], object]:
    def run() -> object:
        return subprocess.run(argv, check=True, capture_output=True, **options)  # type: ignore[call-overload]

    return run


def in_turns(rounds: int, *runs: Callable[[], object]) -> list[float]:
    """Time some runs in turns; returns each one's median in seconds."""
    for run in runs:
        run()  # warms the disk cache
    times = [[seconds(run) for run in runs] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


@contextmanager
def batch(tasks: int) -> Iterator[list[str]]:
    """Give the command line that runs this many no-op tasks."""
    with tempfile.TemporaryDirectory() as folder:
        config, file = Path(folder) / "config.yaml", Path(folder) / "tasks.jsonl"
        config.write_text(CONFIG)
        file.write_text('{"backend": "noop", "prompt": "x"}\n' * tasks)
        yield [*CLINVK, "parallel", "--config", str(config), "--file", str(file), "--quiet"]


def cold_start() -> Iterator[Figure]:
    """3 no-op tasks with nothing set up, the whole command; and --help."""
    with batch(3) as clinvk:
        floor = command([sys.executable, "-c", "import celery.app, redis"])
        ours, imports = in_turns(9, command(clinvk), floor)
    yield Figure("3 no-op tasks, whole command", ours, "s", imports, "import celery.app, redis")
    floor = command([sys.executable, "-c", "import click"])
    ours, imports = in_turns(15, command([*CLINVK, "--help"]), floor)
    yield Figure("--help", ours, "s", imports, "import click")


def throughput(tasks: int = 2000, at_once: int = 8) -> Iterator[Figure]:
    """No-op tasks, as the rate of the whole command."""
    numbers = "\n".join(map(str, range(tasks)))

    def threads() -> None:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda _: subprocess.run(["/bin/true"], check=True), range(tasks)))

    peers: dict[str, Callable[[], object]] = {"threads + subprocess": threads}
    peers[f"xargs -P{at_once}"] = command(
        ["xargs", f"-P{at_once}", "-n1", "/bin/true"], input=numbers.encode()
    )
    if shutil.which("parallel"):
        peers[f"GNU parallel -j{at_once}"] = command(
            ["parallel", f"-j{at_once}", "/bin/true"], input=numbers.encode()
        )
    with batch(tasks) as clinvk:
        ours, *theirs = in_turns(
            3, command([*clinvk, "--max-parallel", str(at_once)]), *peers.values()
        )
    for name, other in zip(peers, theirs, strict=True):
        yield Figure(
            f"{tasks} no-op tasks, {at_once} at once", tasks / ours, "/s", tasks / other, name
        )


def memory(tasks: int = 300, at_once: int = 8) -> Iterator[Figure]:
    """Peak resident memory of the processes that a local run has.

    What workers share with the local supervisor, which they are forked from, is counted for each.
    """
    peaks: dict[str, float] = {}
    with batch(tasks) as clinvk:
        client = psutil.Popen([*clinvk, "--max-parallel", str(at_once)], stdout=subprocess.DEVNULL)
        while client.poll() is None:
            note_peak(client, peaks, "client")
            for supervisor in children(client):
                note_peak(supervisor, peaks, "local supervisor")
                for process in children(supervisor):
                    note_peak(process, peaks)
            time.sleep(0.02)
    for role, peak in sorted(peaks.items()):
        yield Figure(f"peak memory of the {role}", peak, "MiB")


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.Error:
        return []


def note_peak(process: psutil.Process, peaks: dict[str, float], role: str | None = None) -> None:
    try:
        words = " ".join(process.cmdline())
        resident = process.memory_info().rss / (1 << 20)
    except psutil.Error:
        return
    role = role or ("server" if "unixsocket" in words else "worker")
    peaks[role] = max(peaks.get(role, 0.0), resident)


def measured(name: str, **options: object) -> Iterator[Figure]:
    """Measure what has a module of its own; it is imported only for that."""
    for row in import_module(f"benchmarks.{name}").measure(**options):
        yield Figure(*row)


BENCHMARKS: dict[str, Callable[[], Iterator[Figure]]] = {
    "cold_start": cold_start,
    "throughput": throughput,
    "memory": memory,
    "slots": partial(measured, "slots"),
    "turnaround": partial(measured, "turnaround"),
    "makespan": partial(measured, "makespan"),
    "round_trips": partial(measured, "round_trips"),
    "scale": partial(measured, "scale"),
    "sandbox": partial(measured, "sandbox"),
    "fleet": partial(measured, "fleet"),
    "steps": partial(measured, "steps", seconds=30.0),
    "durable": partial(measured, "durable"),
    "runs": partial(measured, "runs"),
    "waiting": partial(measured, "waiting", seconds=30.0),
    "real_limits": partial(measured, "real_limits"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument(
        "--seconds",
        type=float,
        default=30.0,
        metavar="S",
        help="how long `steps` watches a worker, and `waiting` a server",
    )
    parser.add_argument(
        "--seeds", type=int, default=200, metavar="N", help="how many runs `durable` kills"
    )
    parser.add_argument(
        "--first-seed", type=int, default=0, metavar="N", help="the first seed of `durable`"
    )
    options = parser.parse_args()
    BENCHMARKS["durable"] = partial(
        measured, "durable", seeds=options.seeds, first_seed=options.first_seed
    )
    for name in ("steps", "waiting"):
        BENCHMARKS[name] = partial(measured, name, seconds=options.seconds)
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    print(f"{machine}, Python {platform.python_version()}\n")
    print("| what | clinvk | against | ratio |\n|---|---|---|---|")
    figures = []
    for name in options.names or BENCHMARKS:
        try:
            for figure in BENCHMARKS[name]():
                figures.append(figure)
                print(row(figure), flush=True)
        except MissingError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    if options.json:
        rows = [{**asdict(figure), "ratio": figure.ratio} for figure in figures]
        options.json.write_text(json.dumps({"machine": machine, "figures": rows}, indent=2))


def row(figure: Figure) -> str:
    against = f"{show(figure.against, figure.unit)} {figure.floor}" if figure.against else ""
    ratio = f"{figure.ratio:.2f}" if figure.ratio else ""
    return f"| {figure.name} | {show(figure.value, figure.unit)} | {against} | {ratio} |"


def show(value: float, unit: str) -> str:
    return f"{value:.{DIGITS.get(unit, 0)}f} {unit}"


if __name__ == "__main__":
    main()
