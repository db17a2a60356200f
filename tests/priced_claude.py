"""A `claude` that costs what its prompt says, for fleets with budgets.

Its prompt is `NAME SECONDS USD`. It keeps a record of its own: a line `start NAME USD` as it begins
and `end NAME USD` just before it says what it has cost. It keeps to `--max-budget-usd` only where
FOLDER has a file `obedient`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def note(folder: Path, *words: object) -> None:
    """Add a line to the record of all machines."""
    log = os.open(folder / "costs.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(log, " ".join(map(str, words)).encode() + b"\n")
    os.close(log)


def main(given: str) -> int:
    """Do what the prompt says; returns the exit code."""
    if "--version" in sys.argv:
        print("0.0.0 (priced)")
        return 0
    folder, (name, seconds, usd) = Path(given), sys.stdin.read().split()
    cost, is_error = float(usd), False
    if (folder / "obedient").exists() and "--max-budget-usd" in sys.argv:
        most = float(sys.argv[sys.argv.index("--max-budget-usd") + 1])
        cost, is_error = min(cost, most), cost > most
    note(folder, "start", name, cost)
    time.sleep(float(seconds))
    note(folder, "end", name, cost)
    ended = {
        "type": "result",
        "subtype": "error_max_budget_usd" if is_error else "success",
        "is_error": is_error,
        "num_turns": 1,
        "result": None if is_error else name,
        "total_cost_usd": cost,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }
    os.write(1, json.dumps(ended).encode() + b"\n")
    return int(is_error)
