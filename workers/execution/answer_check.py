"""The answer of a task with a `schema`, read and validated in a process of its own.

Schema and answer come from others, and a few lines of schema can keep any validator busy for
hours, with the lock of the interpreter held: the tasks beside it would stand still. So a worker
starts a process for it, with a limit, and loads nothing itself. That takes about 60 ms.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from clinvk.core.schemas import Schema
from clinvk.core.spec import ErrorKind
from workers.execution.refusal import RefusedError

PROGRAM = Path(__file__).with_name("answer_program.py")
CPU_SECONDS = 10
TIMEOUT_SECONDS = 60.0


def check(text: str, schema: Schema) -> tuple[Any, list[str]]:
    """Return an answer's value, and what is wrong with it, a line each.

    Raises:
        RefusedError: nothing can be validated against the schema.
    """
    given = json.dumps({"text": text, "schema": schema, "cpu_seconds": CPU_SECONDS})
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(PROGRAM)],
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            input=given.encode(),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, [TOO_LONG]
    if done.returncode < 0:
        return None, [TOO_LONG]
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise RefusedError(ErrorKind.FAILED, f"the answer cannot be validated: {said}")
    found = json.loads(done.stdout)
    if "schema" in found:
        raise RefusedError(ErrorKind.INVALID, f"schema: {found['schema']}")
    return found.get("data"), found.get("problems", [])


TOO_LONG = f"cannot be validated in {CPU_SECONDS} s"
