"""The real CLIs do what the fake model calls their tools for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.system.realcli import fakeapi
from tests.system.realcli.test_end_to_end import EVERY, asked, run
from tests.system.realcli.toolcalls import edit, prompt, read, shell, write

pytestmark = pytest.mark.timeout(300)

PERMISSIONS: dict[str, dict[str, Any]] = {
    # As root, this CLI refuses to go without permissions.
    "claude": {"approval_mode": "auto", "allowed_tools": ["Bash", "Edit", "Write"]},
    "codex": {"approval_mode": "none", "sandbox_mode": "full"},
    "gemini": {"approval_mode": "none"},
    "copilot": {"approval_mode": "none"},
    "opencode": {"approval_mode": "none"},
}
"""What lets each CLI use all of its tools."""
CALLING = (*EVERY, "copilot")


def test_each_cli_runs_reads_writes_and_edits_before_it_answers(tmp_path: Path) -> None:
    tasks = []
    for backend in CALLING:
        folder = tmp_path / backend
        folder.mkdir()
        (folder / "edited.txt").write_text("one\ntwo\n")
        calls = (
            shell("echo said; echo done > ran.txt"),
            write("made.txt", "a line\nanother\n"),
            read("edited.txt"),
            edit("edited.txt", "two", "three"),
        )
        task = {"backend": backend, "prompt": prompt(backend, *calls), "workdir": str(folder)}
        tasks.append(task | PERMISSIONS[backend])
    status, document = run(tmp_path, tasks)
    assert [result.get("error") for result in document["results"]] == [None] * len(CALLING)
    for backend, result in zip(CALLING, document["results"], strict=True):
        folder = tmp_path / backend
        assert {path.name: path.read_text() for path in folder.iterdir()} == {
            "ran.txt": "done\n",
            "made.txt": "a line\nanother\n",
            "edited.txt": "one\nthree\n",
        }
        assert result["output"] == fakeapi.answer_to(backend)
        assert result["acted"] is True
    last = [r["tool_results"] for r in asked(tmp_path) if len(r["tool_results"]) == 4]
    assert [("said" in results[0], "two" in results[2]) for results in last] == [
        (True, True)
    ] * len(CALLING)
    assert status == 0


def test_an_extra_argument_adds_no_tool_to_a_read_only_task(tmp_path: Path) -> None:
    """A flag that takes a list would take the argument after it, too."""
    task = {
        "backend": "claude",
        "sandbox_mode": "read-only",
        "extra": ["Bash", "--allowedTools=Bash"],
        "prompt": prompt("extra", shell("touch made.txt")),
    }
    _, document = run(tmp_path, [task])
    assert document["results"][0]["output"] == fakeapi.answer_to("extra")
    assert not (tmp_path / "work" / "made.txt").exists()
