"""A task that meets a limit after a tool call goes on in its CLI's session, which then is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.system.realcli import fakeapi, limits
from tests.system.realcli.test_end_to_end import EVERY, asked, clinvk, write
from tests.system.realcli.test_tool_calls import PERMISSIONS
from tests.system.realcli.toolcalls import prompt, shell

pytestmark = pytest.mark.timeout(300)

LIMITS = {
    "claude": "burst",
    "codex": "rate",
    "gemini": "minute_2",
    "opencode": "chat_rate",
}
SANDBOXED = {"approval_mode": "none", "sandbox_mode": "workspace"}
UNCONFINED = ("codex", "gemini")


def left(home: Path, session_id: str) -> list[Path]:
    """Return what has a session in its name or in its text."""
    found = [path for path in home.rglob("*") if session_id[:8] in path.name]
    texts = (path for path in home.rglob("*") if path.is_file() and path.suffix == ".jsonl")
    return found + [path for path in texts if session_id in path.read_text(errors="replace")]


def test_a_task_goes_on_in_its_session_of_which_nothing_stays(tmp_path: Path) -> None:
    """In a sandbox, and without one where the CLI itself asks nobody."""
    tasks: list[dict[str, Any]] = []
    for backend in EVERY:
        folder = tmp_path / backend
        folder.mkdir()
        text = f"{prompt(backend, shell('echo ran >> runs.txt; echo noted'))} {limits.ONCE}"
        permissions = PERMISSIONS[backend] if backend in UNCONFINED else SANDBOXED
        task = {"backend": backend, "prompt": f"{text} limit:{LIMITS[backend]}", **permissions}
        tasks.append({**task, "workdir": str(folder)})
    arguments = (
        "parallel",
        "-f",
        write(tmp_path, "tasks", tasks),
        "--max-parallel",
        str(len(tasks)),
    )
    status, document = clinvk(tmp_path, *arguments, world=["--quick-limits"])
    assert [result.get("error") for result in document["results"]] == [None] * len(EVERY)
    assert status == 0
    for backend, result in zip(EVERY, document["results"], strict=True):
        assert result["output"] == fakeapi.answer_to(backend)
        assert [each["error_kind"] for each in result["tried"]] == ["rate_limited"]
        assert result["usage"]["input_tokens"] == (20 if backend == "codex" else 10)
        assert (tmp_path / backend / "runs.txt").read_text() == "ran\n", "it was not started over"
        of_it = [r for r in asked(tmp_path) if fakeapi.backend_of(r["path"]) == backend]
        assert "noted" in of_it[-1]["tool_results"][0]
        assert "You were interrupted" in of_it[-1]["prompt"]
        assert left(tmp_path / "home", result["session_id"]) == []
    assert not [*(tmp_path / "home/.clinvk/state/sessions").glob("*/*")]
