"""Chaos: a fleet under faults, and then the question whether its promises held.

    python -m tests.system.chaos --seed 7                       one chaos run, about two minutes
    python -m tests.system.chaos --seeds 20 --json chaos.json   twenty, one after another

Each seed makes a fleet of its own (a Valkey with an append-only file, machines in network
namespaces, a worker on each), submits a run of short and long tasks and poison through a CLI that
keeps its own record, strikes every quarter of a second for `--seconds` with faults that the seed
draws (workers and machines killed, the server restarted, links cut, connections reset, clients
killed: chaos_run.py), heals everything, and waits for the run to end by itself. Which
kinds of fault there are also differs from seed to seed, unless `--faults` names them: some bugs
hide behind others. A seed repeats the faults, not what the machine makes of their timing.

Exit code 0 if everything held. Needs root on Linux; it touches no network but its own. A chaos run
with restarts of the server takes at least 85 s after the last one: so long its record of who was
connected counts for nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests import harness, limited_claude
from tests.system.chaos import chaos_run, verdict, work, world

ENDS_WITHIN_SECONDS = 300.0
GONE_WITHIN_SECONDS = 15.0
ZEROES = (
    "lost",
    "recorded twice",
    "overlapping executions",
    "started while a limit was closed",
    "stuck runs",
    "workers that ended by themselves",
    "processes left",
    "leases left",
    "keys without a lifetime",
)


class StuckError(Exception):
    """The run did not end."""


def one(options: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    """Raise one chaos run; returns its figures, with what was wrong under `problems`."""
    dice = random.Random(seed)
    kinds = options.faults or tuple(k for k in chaos_run.OPTIONAL if dice.random() < 2 / 3)
    tasks = work.plan(dice, options.tasks)
    place = world.World(folder, options.workers, options.slots)
    raging: chaos_run.ChaosRun | None = None
    try:
        place.server.start()
        run = submit(place, tasks)
        raging = chaos_run.ChaosRun(place, dice, kinds, run, folder / "shown.json")
        started = time.monotonic()
        await_beginning(raging)
        raging.rage(options.seconds)
        raging.calm()
        say(f"seed {seed}: healed; waiting for the end of run {run}")
        try:
            await_end(raging)
        except StuckError:
            status = place.clinvk("status", run, "--json").stdout
            return {"stuck runs": 1, "problems": [f"the run is stuck: {status}"]}
        seconds = time.monotonic() - started
        figures = judge(place, raging, run, tasks)
        return {"faults": raging.counts, "seconds": round(seconds, 1), **figures}
    finally:
        if raging is not None:
            raging.close()
        place.close()


def submit(place: world.World, tasks: list[work.Work]) -> str:
    """Submit the run; returns its id."""
    file = place.folder / "tasks.jsonl"
    file.write_text("".join(task.line(index) for index, task in enumerate(tasks)))
    most = str(place.slots * len(place.units) + 10)
    options = ("--detach", "--wait-for-workers", "--max-parallel", most, "--file", str(file))
    budget = ("--max-cost", "500", "--max-tokens-total", "100M", "--allow-unknown-cost")
    submitted = place.clinvk("parallel", *options, *budget)
    if submitted.returncode != 0:
        raise SystemExit(f"the run was refused: {submitted.stderr}")
    return submitted.stdout.strip()


def await_beginning(raging: chaos_run.ChaosRun) -> None:
    def has_begun() -> bool:
        raging.tend(0)
        return raging.world.log.stat().st_size > 0

    harness.wait_until(has_begun, "the run to begin")


def await_end(raging: chaos_run.ChaosRun) -> None:
    give_up_at = time.monotonic() + ENDS_WITHIN_SECONDS
    while not raging.is_over:
        if time.monotonic() > give_up_at:
            raise StuckError
        raging.tend(0.1)


def await_workers(raging: chaos_run.ChaosRun) -> list[str]:
    """Wait until every worker is there again; returns what is wrong with those that are not."""
    give_up_at = time.monotonic() + harness.TIMEOUT_SECONDS
    while away := [unit.name for unit in raging.world.units if not unit.owner]:
        if time.monotonic() > give_up_at:
            break
        raging.tend(0.1)
    return [f"{name} did not come back" for name in away]


def judge(
    place: world.World, raging: chaos_run.ChaosRun, run: str, tasks: list[work.Work]
) -> dict[str, Any]:
    """Gather the records of a run that is over, and hold them against each other."""
    give_up_at = time.monotonic() + GONE_WITHIN_SECONDS
    while (left := place.marked()) and time.monotonic() < give_up_at:
        raging.tend(0.05)
    away = await_workers(raging)
    answered = place.clinvk("results", run, "--json")
    ledger = json.loads(place.clinvk("costs", "--by", "run", "--json").stdout)
    with place.server.client() as client:
        reserved = {
            f"{name} {field.decode()}": amount.decode()
            for name in (f"clinvk:run:{run}:reserved", "clinvk:reserved")
            for field, amount in client.hgetall(name).items()
            if amount != b"0"
        }
        leases = [
            lease.decode()
            for name in client.scan_iter("clinvk:queue:*:leases")
            for lease in client.zrange(name, 0, -1)
        ]
        lasting = harness.keys_without_lifetime(client)
        events = [
            {"id": at.decode()} | {name.decode(): value.decode() for name, value in fields.items()}
            for at, fields in client.xrange(f"clinvk:run:{run}:events")
        ]
    faults = {
        "kills": [vars(kill) for kill in raging.kills],
        "outages": place.server.outages,
        "cuts": {unit.name: unit.cuts for unit in place.units},
        "events": events,
    }
    (place.folder / "faults.json").write_text(json.dumps(faults))
    ends = place.stop_workers()
    records = verdict.Records(
        work=tasks,
        results=json.loads(answered.stdout),
        shown=json.loads(raging.output.read_text()),
        events=events,
        log=verdict.Log.read(place.log),
        requests=limited_claude.requests(place.folder),
        kills=raging.kills,
        units=place.units,
        outages=place.server.outages,
        ledger=ledger,
        reserved=reserved,
    )
    wrong = [*verdict.problems(records), *place.crashes, *away, *ends]
    wrong += [f"left: {about}" for about in [*left, *leases, *lasting]]
    return {
        **verdict.figures(records, left, leases),
        "stuck runs": 0,
        "workers that ended by themselves": len(place.crashes),
        "keys without a lifetime": len(lasting),
        "problems": wrong,
    }


# Several seeds.


def total(all_figures: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the figures of several chaos runs."""
    counts: Counter[str] = Counter()
    recovery: dict[str, list[float]] = {category: [] for category in verdict.CATEGORIES}
    for figures in all_figures:
        for name, value in figures.items():
            if isinstance(value, int):
                counts[name] += value
        for category, seconds in figures.get("recovery_seconds", {}).items():
            recovery[category] += seconds
    return {"chaos_runs": len(all_figures), **counts, "recovery_seconds": recovery}


def show(figures: dict[str, Any]) -> None:
    """Print figures, one to a line."""
    for name, value in figures.items():
        if name == "recovery_seconds":
            for category, seconds in value.items():
                say(f"  recovery, {category}: {verdict.quantiles(seconds)}")
        elif name == "problems":
            for problem in value:
                say(f"  WRONG: {problem}")
        else:
            say(f"  {name}: {value}")


def say(line: str) -> None:
    print(line, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.chaos", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seed", type=int, default=1, help="the first, or only, seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after another")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--slots", type=int, default=3, help="of each worker")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the chaos run lasts")
    parser.add_argument("--faults", type=lambda text: tuple(text.split(",")), metavar="NAME,…")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and the server's file")
    return parser.parse_args()


def tidy_up_when_told_to_stop() -> None:
    """Make SIGTERM an exception in this process; in what pyroute2 forks of it, still an end."""
    ours = os.getpid()

    def stop(number: int, _: object) -> None:
        if os.getpid() != ours:
            os._exit(128 + number)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)


def main() -> int:
    options = arguments()
    world.isolate()
    tidy_up_when_told_to_stop()
    figures_by_seed = {}
    for seed in range(options.seed, options.seed + options.seeds):
        folder = Path(tempfile.mkdtemp(prefix=f"chaos{seed}-"))
        try:
            figures_by_seed[seed] = one(options, seed, folder)
        finally:
            if options.keep:
                shutil.copytree(folder, options.keep / str(seed), dirs_exist_ok=True)
            shutil.rmtree(folder)
        say(f"seed {seed}:")
        show(figures_by_seed[seed])
        if options.json:
            document = {"total": total(list(figures_by_seed.values())), "seeds": figures_by_seed}
            options.json.write_text(json.dumps(document, indent=2) + "\n")
    if len(figures_by_seed) > 1:
        show(total(list(figures_by_seed.values())))
    return int(any(figures["problems"] for figures in figures_by_seed.values()))


if __name__ == "__main__":
    sys.exit(main())
