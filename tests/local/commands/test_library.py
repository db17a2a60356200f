"""`import clinvk` in a program of somebody else's, with real processes."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from tests import harness

PROGRAM = """
import ctypes, json, os, signal, sys
import clinvk

assert not {"celery", "click", "pydantic", "redis"} & sys.modules.keys()
signals = [signal.getsignal(number) for number in range(1, 16)]
stream = clinvk.stream([
    clinvk.Task(backend="echo", prompt="done at once"),
    *[clinvk.Task(backend="echo", prompt="[wait 600]")] * 3,
], max_parallel=4)
try:
    for event in stream:
        if event.kind == "finished":
            print(event.result.output, flush=True)
except KeyboardInterrupt:
    import psutil
    print(json.dumps({
        "left": len(psutil.Process().children(recursive=True)),
        "statuses": [result.status for result in stream.run.results],
        "hidden": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) != 1,
        "signals": signals == [signal.getsignal(number) for number in range(1, 16)],
    }))
"""


@pytest.mark.usefixtures("temporary")
def test_ctrl_c_ends_all_processes_and_leaves_the_program_as_it_was() -> None:
    with subprocess.Popen(
        [*harness.PYTHON, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done at once\n"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=harness.TIMEOUT_SECONDS)
    assert (process.returncode, stderr) == (0, "")
    assert json.loads(stdout.splitlines()[-1]) == {
        "left": 0,
        "statuses": ["ok", *["canceled"] * 3],
        "hidden": False,
        "signals": True,
    }
