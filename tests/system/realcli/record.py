"""Record what the real CLIs print: `python -m tests.system.realcli.record`.

Writes `tests/transcripts/<backend>/<scenario>.json`, with paths of this machine and ports taken
out. `expected.json` beside them says what each must be understood as.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from clinvk.backends import BackendRegistry
from clinvk.backends.base import Backend
from clinvk.core.spec import TaskSpec
from tests import harness
from tests.system.realcli import fakeapi
from tests.system.realcli.sealed import environment, seal

FOLDER = harness.TRANSCRIPTS
API_SCENARIOS = ("success", "400", "401", "403", "404", "429", "500", "refusal", "cut", "quota")
BACKENDS = {"claude": 11 << 20, "codex": 2 << 20, "gemini": 9 << 20, "copilot": 0, "opencode": 0}
"""Each with a prompt length in bytes that is too much for it; 0 where the model alone decides."""


def scenarios(backend: str) -> dict[str, TaskSpec]:
    """Return what is recorded of a backend: a task for each scenario."""
    model = "gemini-3.8-flash" if backend == "gemini" else None
    prompts = {name: f"question:{backend} scenario:{name}" for name in API_SCENARIOS}
    if size_bytes := BACKENDS[backend]:
        prompts["too_large"] = "x " * (size_bytes // 2)
    else:
        prompts["too_large"] = "question:large limit:chat_context"
    prompts["slash_command"] = "/nosuchcommand of mine question:slash"
    specs = {
        name: TaskSpec(backend=backend, prompt=prompt, model=model)
        for name, prompt in prompts.items()
    }
    specs["bad_flag"] = TaskSpec(backend=backend, prompt="x", extra=["--no-such-flag"])
    return specs


def record(backend: str, scenario: str, spec: TaskSpec, url: str) -> None:
    """Run one scenario and write its file."""
    own = BackendRegistry.from_config({}).get(backend)
    command = own.command(spec)
    with tempfile.TemporaryDirectory() as home:
        workdir = Path(home) / "work"
        workdir.mkdir()
        done = subprocess.run(
            command.argv,
            input=command.stdin,
            capture_output=True,
            cwd=workdir,
            env={**environment(Path(home), url), **quiet(own), **command.env},
            timeout=300,
            check=False,
        )
        version = subprocess.run(
            [backend, "--version"],
            capture_output=True,
            text=True,
            env=environment(Path(home), url),
            check=True,
        ).stdout.strip()
        content = {
            "backend": backend,
            "scenario": scenario,
            "version": version,
            "argv": list(command.argv),
            "returncode": done.returncode,
            "stdout": clean(done.stdout, home),
            "stderr": clean(done.stderr, home)[-20_000:],
        }
    path = FOLDER / backend / f"{scenario}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    print(backend, scenario, done.returncode)


def quiet(backend: Backend) -> dict[str, str]:
    """Return the variables that keep a CLI from trying again by itself."""
    return {name: value for name, value in backend.quiet_env.items() if value is not None}


def clean(output: bytes, home: str) -> str:
    """Take out what is of this machine, and the echo of a prompt that was too long."""
    text = output.decode("utf-8", "replace").replace(os.path.realpath(home), "/home/user")
    text = text.replace(home, "/home/user")
    text = re.sub(r"(?:file://)?(/[\w.@+-]+)+/node_modules", "/node_modules", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8000", text)
    return re.sub(r"(x ){1000,}", "x x x ", text)


def main() -> int:
    """Record everything, or only the backends that are named."""
    seal()
    with fakeapi.FakeApi() as api:
        os.environ["PATH"] = environment(Path(tempfile.mkdtemp()), api.url)["PATH"]
        for backend in sys.argv[1:] or BACKENDS:
            for scenario, spec in scenarios(backend).items():
                record(backend, scenario, spec, api.url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
