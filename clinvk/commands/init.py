"""`clinvk init`: a configuration and a task file to begin with, for the CLIs of this machine."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from clinvk.backends import BackendRegistry
from clinvk.backends.base import Backend
from clinvk.config import paths
from clinvk.core import exit_codes
from clinvk.core.errors import UsageError
from clinvk.core.user_paths import make_directory
from clinvk.output.streams import Output

TASKS = Path("tasks.json")
DIRECTORY_MODE = 0o700
PROMPT = "Name the three files of this directory that matter most, and why"
CONFIG = """\
# clinvk's configuration. A line that is commented out shows a default, or an example: remove its
# `# ` to set it. What is in force, with all other settings: clinvk config show

# broker_url: redis://localhost:6379/0   # a fleet; without it, runs are local
# steps: summary                 # what is kept of what agents do: off, summary or full

parallel:
#   max_workers: 3               # tasks at once
#   fail_fast: false             # cancel a run at its first failure

unified_flags:                   # defaults for the tasks of all backends
#   approval_mode: default       # auto, none (never asks) or always
#   sandbox_mode: default        # read-only, workspace or full
#   command_timeout_secs: 1800   # 0: none
#   stall_timeout_seconds: 600   # for a task that prints nothing; 0: none

backends:
{backends}
#   mytool:                      # any CLI: prompt on stdin, answer on stdout, exit code 0 is ok
#     command: ["mytool", "--stdin"]

queues:                          # limits of a backend over all tasks, and over a whole fleet
#   {first}:
#     max_concurrency: 8
#     rate: 50/min
"""
BACKEND = """\
#   {name}:
#     model: NAME                # instead of the CLI's own default
#     sandbox_mode: workspace"""


def run(config: str | None) -> int:
    """Write what is not there yet, and say what to do next."""
    location = paths.locate(config)
    registry = BackendRegistry.from_config({})
    known = [registry.get(name) for name in registry.names()]
    here = {backend.name for backend in known if shutil.which(backend.program)}
    known = [backend for backend in known if backend.name in here or not backend.only_named]
    backends = [backend for backend in known if not backend.is_demo]
    found = [backend for backend in backends if backend.name in here]
    output = Output(sys.stdout)
    for backend in backends:
        where = shutil.which(backend.program)
        output.write(f"{backend.name}: {where or f'not found: {backend.install_hint}'}\n")
    names = [backend.name for backend in found or known if found or backend.is_demo]
    for path, text in ((location, _config(backends, names[0])), (TASKS, _tasks(names))):
        output.write(f"{path}: {_written(path, text)}\n")
    output.write(f"Next: clinvk parallel --file {TASKS} --dry-run\n")
    return exit_codes.OK


def _config(backends: Sequence[Backend], first: str) -> str:
    sections = "\n".join(BACKEND.format(name=backend.name) for backend in backends)
    return CONFIG.format(backends=sections, first=first)


def _tasks(names: Sequence[str]) -> str:
    tasks = [
        {"backend": name, "name": f"ask {name}", "prompt": PROMPT, "sandbox_mode": "read-only"}
        for name in names
    ]
    return json.dumps({"tasks": tasks, "max_parallel": 3}, indent=2) + "\n"


def _written(path: Path, text: str) -> str:
    """Write a file that is not there yet; returns what became of it, in a word.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        if not path.parent.exists():
            make_directory(path.parent, DIRECTORY_MODE)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        return "kept as it is"
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    return "written"
