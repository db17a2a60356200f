"""What the real CLIs do is seen while they do it, an agent that hangs is ended, no key is shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.system.realcli import fakeapi
from tests.system.realcli.sealed import KEY
from tests.system.realcli.test_end_to_end import BACKENDS, ROOT, SEALED, run, write
from tests.system.realcli.test_tool_calls import PERMISSIONS
from tests.system.realcli.toolcalls import HANG, prompt, shell

pytestmark = pytest.mark.timeout(300)

WAITS = "until test -e go; do sleep 0.1; done"
SAYS_KEYS = "printenv ANTHROPIC_API_KEY FAKE_KEY GEMINI_API_KEY"


def watched(tmp_path: Path, tasks: list[dict[str, Any]]) -> tuple[list[str], dict[str, Any]]:
    """Run tasks whose tools wait for a file, which is made when the call is seen on standard error.

    Returns the lines of standard error and the document.
    """
    command = [sys.executable, "-m", "clinvk", "parallel", "-f", write(tmp_path, "tasks", tasks)]
    command += ["--json", "-v", "--output-dir", str(tmp_path / "out"), "--max-parallel", "3"]
    lines, waiting = [], {f"[{number}]": task for number, task in enumerate(tasks, start=1)}
    with (
        (tmp_path / "document.json").open("w+") as document,
        subprocess.Popen(
            [*SEALED, str(tmp_path / "home"), *command],
            cwd=ROOT,
            stdout=document,
            stderr=subprocess.PIPE,
            text=True,
        ) as client,
    ):
        assert client.stderr is not None
        for line in client.stderr:
            lines.append(line)
            task = waiting.get(line.partition(" ")[0])
            if task is not None and WAITS in line:
                del waiting[line.partition(" ")[0]]
                Path(task["workdir"], "go").touch()
    harness.wait_until(
        lambda: not harness.of_directory(str(tmp_path / "home" / "tmp")), "all processes to end"
    )
    assert waiting == {}
    return lines, json.loads((tmp_path / "document.json").read_text())


def test_steps_are_seen_while_the_cli_runs_and_keys_are_not(tmp_path: Path) -> None:
    """Each tool goes on only when its call was seen, so a step that comes late is never seen."""
    tasks = []
    for backend in BACKENDS:
        folder = tmp_path / backend
        folder.mkdir()
        calls = shell(WAITS), shell(f"{SAYS_KEYS}; echo the key was {KEY}")
        task = {"backend": backend, "prompt": prompt(KEY, *calls), "workdir": str(folder)}
        tasks.append({**task, "name": backend} | PERMISSIONS[backend])
    lines, document = watched(tmp_path, tasks)
    told = [(r.get("error"), r.get("output"), r["acted"]) for r in document["results"]]
    assert told == [(None, fakeapi.answer_to("***"), True)] * 3
    asked = (tmp_path / "home" / "requests.jsonl").read_text()
    assert asked.count(f"the key was {KEY}") >= 3  # the tools did say it
    transcripts = list((tmp_path / "out").glob("*.transcript.jsonl"))
    assert len(transcripts) == 3
    for path in transcripts:
        assert "the key was ***" in path.read_text()
        assert {type(json.loads(line)) for line in path.read_text().splitlines()} == {dict}
    written = [path.read_text() for path in (tmp_path / "out").iterdir()]
    said = "".join((*lines, *written, json.dumps(document)))
    for task in tasks:
        said = said.replace(task["prompt"], "")  # as the user wrote it
    assert KEY not in said


HANGS = {
    "claude": (shell("sleep 600"),),
    "codex": (shell("echo one"), HANG),
    "gemini": (shell("sleep 600"),),
}
LAST = {"claude": "Bash sleep 600", "codex": "Bash echo one", "gemini": "Bash sleep 600"}


def test_an_agent_that_hangs_in_a_tool_or_for_its_model_is_ended(tmp_path: Path) -> None:
    tasks = [
        {"backend": backend, "prompt": prompt("x", *calls), "stall_timeout_seconds": 12}
        | PERMISSIONS[backend]
        for backend, calls in HANGS.items()
    ]
    status, document = run(tmp_path, tasks)  # which waits for all processes to end
    assert status == 1
    for result in document["results"]:
        assert (result["status"], result["exit_code"]) == ("timeout", -1)
        assert result["error"] == f"no output for 12 s (last: {LAST[result['backend']]})"
        assert result["acted"] is True
