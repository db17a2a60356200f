"""Redis commands of a run, per task, from its submission to the end of the client.

Counted with MONITOR, because `INFO commandstats` counts what scripts call as well. Scripts go by
the store's operation, other commands by the kind of key, where it is one of the store's.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.private import workers
from benchmarks.scale import Row, server
from clinvk.store.keys import KEYS
from clinvk.store.scripts import operations
from clinvk.store.store import Store

TASKS, SLOTS = 500, 8
CONFIG = "backends: {noop: {command: [/bin/true]}}\n"
LEAST = 0.01
"""Commands that are sent less often for each task are counted together."""
END = "clinvk-benchmark-ends"
KINDS = {
    kind: re.compile(re.escape(template).replace(r"\{\}", "[^: ]+"))
    for kind, template in KEYS.items()
}


class Labels:
    """Names what clients have sent."""

    def __init__(self) -> None:
        self._names = {operation.sha: name for name, operation in operations().items()}

    def label(self, command: str) -> str:
        name, *arguments = command.split(" ")
        name = name.lower()
        if name == "evalsha":
            return f"{name} {self._names.get(arguments[0], '?')}"
        for argument in arguments:
            for kind, pattern in KINDS.items():
                if pattern.fullmatch(argument):
                    return f"{name} {kind}"
        return name


def sent(store: Store, argv: list[str]) -> Counter[str]:
    """Count what clients send while a command runs."""
    labels, counts = Labels(), Counter[str]()
    with store.redis.monitor() as monitor:
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        store.redis.echo(END)
        for entry in monitor.listen():
            if END in entry["command"]:
                return counts
            if entry["client_type"] != "lua":
                counts[labels.label(entry["command"])] += 1
    raise RuntimeError("MONITOR ended")


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as (url, store):
        config, file = Path(name) / "config.yaml", Path(name) / "tasks.jsonl"
        config.write_text(CONFIG)
        file.write_text('{"backend": "noop", "prompt": "x"}\n' * TASKS)
        argv = [sys.executable, "-m", "clinvk", "parallel", "--broker", url, "--quiet"]
        argv += ["--config", str(config), "--file", str(file), "--max-parallel", str(SLOTS)]
        with workers(url, store, config, "noop", 1, SLOTS):
            counts = sent(store, argv)
    what = f"Redis commands, {TASKS} no-op tasks"
    yield f"{what}: all", counts.total() / TASKS, "per task", None, ""
    often = [(label, count / TASKS) for label, count in counts.most_common()]
    for label, each in often:
        if each >= LEAST:
            yield f"{what}: {label}", each, "per task", None, ""
    rest = sum(each for _, each in often if each < LEAST)
    yield f"{what}: what is sent less than {LEAST} times", rest, "per task", None, ""
