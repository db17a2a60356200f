"""What a change costs: this tree and another one, in turns, by the processor time that they take.

    git worktree add ../before COMMIT
    python -m benchmarks.trees ../before

Wall time says little on a machine that is shared, so this adds up the processor time of all
processes that a command starts, and compares the least of many rounds. Both trees run in the same
environment, by PYTHONPATH, and compiled. Linux only: processes that outlive their parent are
waited for here.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

CONFIG = "backends: {noop: {command: [/bin/true]}}\n"
TASK = '{"backend": "noop", "prompt": "x"}\n'
HERE = Path(__file__).resolve().parent.parent
PR_SET_CHILD_SUBREAPER = 36
COMPILES_EACH_TIME = {"PYTHONDONTWRITEBYTECODE"}
"""With it a tree would be measured that compiles all of itself at each start."""


def processor_seconds(tree: Path, argv: Sequence[str], home: Path) -> float:
    """Run clinvk as it is in a tree; returns what it and all that it starts took."""
    before = _used()
    env = {
        **{name: value for name, value in os.environ.items() if name not in COMPILES_EACH_TIME},
        "PYTHONPATH": str(tree),
        "HOME": str(home),
        "PYTHONPYCACHEPREFIX": str(home / "pyc"),
    }
    command = [sys.executable, "-m", "clinvk", *argv]
    done = subprocess.run(command, env=env, cwd=tree, stdout=subprocess.DEVNULL, check=False)
    with contextlib.suppress(ChildProcessError):
        while True:  # what has outlived its parent
            os.wait()
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} in {tree}: exit code {done.returncode}")
    return _used() - before


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def in_turns(rounds: int, *runs: Callable[[], float]) -> list[list[float]]:
    """Run some in turns, the first of each round being another one; returns each one's times."""
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()  # compiles, and warms the disk cache
    for number in range(rounds):
        for place in range(len(runs)):
            which = (place + number) % len(runs)
            times[which].append(runs[which]())
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trees", description=__doc__)
    parser.add_argument("other", type=Path, help="the tree to compare with")
    parser.add_argument("--rounds", type=int, default=15, help="how many turns (default: 15)")
    parser.add_argument("--tasks", type=int, default=600, help="how many no-ops (default: 600)")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    print("| what | before: least, median | now: least, median | ratio of the least |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "config.yaml").write_text(CONFIG)
        parallel = ["parallel", "--quiet", "--max-parallel", "8", "--config", f"{home}/config.yaml"]
        cases: dict[str, list[str]] = {"--help": ["--help"]}
        for count in (3, options.tasks):
            file = home / f"{count}.jsonl"
            file.write_text(TASK * count)
            cases[f"{count} no-op tasks"] = [*parallel, "--file", str(file)]
        for what, argv in cases.items():
            before, now = in_turns(
                options.rounds,
                partial(processor_seconds, options.other.resolve(), argv, home),
                partial(processor_seconds, HERE, argv, home),
            )
            print(
                f"| {what} | {_shown(before)} | {_shown(now)} | {min(now) / min(before):.3f} |",
                flush=True,
            )


def _shown(times: Sequence[float]) -> str:
    return f"{min(times):.3f} s, {statistics.median(times):.3f} s"


if __name__ == "__main__":
    main()
