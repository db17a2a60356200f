"""The real CLIs through a provider with limits: a token bucket, and a window that is used up.

Thirty tasks on each CLI, of four requests each, against the fake model API of the tests, in a
network of their own. Needs what `tests/system/realcli` needs: Linux, root, and the CLIs installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.records import MissingError
from benchmarks.scale import Row
from tests.system.realcli import fakeapi
from tests.system.realcli.install import bin_directory
from tests.system.realcli.sealed import REQUESTS
from tests.system.realcli.toolcalls import prompt, read

BACKENDS = ("claude", "codex", "gemini")
TASKS, AT_ONCE, READS = 30, 9, 3
ALLOWED = {"per_minute": 60, "burst": 15, "per_window": 70, "window_seconds": 180}
ANSWER_SECONDS = 2.0


def measure() -> Iterator[Row]:
    """Yield how it ended, and which requests were refused."""
    try:
        bin_directory()
    except AssertionError as error:
        raise MissingError(str(error)) from error
    with tempfile.TemporaryDirectory() as name:
        started = time.monotonic()
        document, requests = run(Path(name))
        took = time.monotonic() - started
    what = f"{TASKS} tasks on each of {len(BACKENDS)} real CLIs"
    yield f"{what}: that ended well", document["completed"], "", document["total_tasks"], "all"
    yield "the same: the whole command", took, "s", None, ""
    for backend in BACKENDS:
        of_cli = [each for each in requests if fakeapi.backend_of(each["path"]) == backend]
        refused = Counter(each["refused"] for each in of_cli if each["refused"])
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(refused.items()))
        share = 100 * refused.total() / len(of_cli)
        yield f"{backend}: refused of {len(of_cli)} requests ({kinds})", share, "%", None, ""


def run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run the tasks; returns the document, and what the provider was asked."""
    (folder / "work").mkdir()
    (folder / "work" / "a.txt").write_text("a line\n")
    file, home = folder / "tasks.json", folder / "home"
    file.write_text(json.dumps({"tasks": [task(n, folder / "work") for n in range(3 * TASKS)]}))
    allowed = dict.fromkeys(BACKENDS, ALLOWED)
    world = ["--allow", json.dumps(allowed), "--answer-seconds", str(ANSWER_SECONDS), str(home)]
    clinvk = [sys.executable, "-m", "clinvk", "parallel", "--json", "--quiet", "--file", str(file)]
    clinvk += ["--max-parallel", str(AT_ONCE), "--max-wait", "1h"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.realcli.sealed", *world, *clinvk],
        stdout=subprocess.PIPE,
        check=False,
    )
    lines = (home / REQUESTS).read_text().splitlines()
    return json.loads(done.stdout), [json.loads(line) for line in lines]


def task(number: int, workdir: Path) -> dict[str, Any]:
    """Make a task: a few files are read, and a question is answered."""
    backend = BACKENDS[number % len(BACKENDS)]
    words = prompt(f"{backend}-{number}", *[read("a.txt")] * READS)
    given = {"backend": backend, "prompt": words, "workdir": str(workdir)}
    model = {"model": "gemini-3.8-flash"} if backend == "gemini" else {}
    return given | model | {"sandbox_mode": "read-only"}
