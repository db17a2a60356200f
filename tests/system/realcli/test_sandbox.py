"""The sandbox holds the real CLIs, told by their model to leave it, and lets them work."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.realcli import fakeapi, mcp_server
from tests.system.realcli.test_end_to_end import BACKENDS, asked, run
from tests.system.realcli.toolcalls import edit, prompt, read, shell, tool, write
from tests.system.sandbox import escapes

pytestmark = pytest.mark.timeout(300)

SETTINGS = {
    "claude": ".claude/settings.json",
    "codex": ".codex/config.toml",
    "gemini": ".gemini/settings.json",
    "copilot": ".copilot/settings.json",
    "opencode": ".config/opencode/opencode.json",
}
OF = {"read-only": BACKENDS, "workspace": tuple(SETTINGS)}
"""The CLIs that try to leave each mode; each of the slow ones is started once."""


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """What no task may reach: a sibling's directory, a key, a server."""
    for name in ("sibling", "home/.ssh", "home/.claude", "home/.copilot"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "sibling/secret").write_text("of a sibling\n")
    (tmp_path / "home/.ssh/id_ed25519").write_text("key\n")
    for cli in ("claude", "copilot"):
        (tmp_path / "home" / SETTINGS[cli]).write_text("{}\n")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        yield tmp_path


def checkout(tmp_path: Path, backend: str) -> Path:
    """Make a checkout to work in."""
    folder = tmp_path / backend
    folder.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    (folder / "kept").write_text("one\ntwo\n")
    return folder


def attack(tmp_path: Path, folder: Path, mode: str) -> str:
    """Return a shell command that tries every escape."""
    world = {
        "home": str(tmp_path / "home"),
        "sibling": str(tmp_path / "sibling"),
        "spill": str(tmp_path / "home/.clinvk/outputs"),
        "workdir": str(folder),
        "socket": str(tmp_path / "s"),
        "abstract": "nobody listens there",
        "secret": "redis+socket://",
        "marker": tmp_path.name,
        "worker": 1 << 21,
        "neighbour": 1 << 21,
        "is_writable": mode == "workspace",
        "has_namespace": True,
    }
    script = Path(escapes.__file__).read_text()
    (folder / "escapes.py").write_text(script)
    python = shlex.quote(sys.executable)
    return f"echo {shlex.quote(json.dumps(world))} | {python} -I -S escapes.py"


WORK = (
    shell("git add -A && git -c user.name=a -c user.email=a@b commit -qm x && echo did"),
    write("made.txt", "a line\n"),
    read("kept"),
    edit("kept", "two", "three"),
)


@pytest.mark.parametrize("mode", ["read-only", "workspace"])
def test_no_attempt_succeeds_and_they_work_in_a_workspace(outside: Path, mode: str) -> None:
    folders = {backend: checkout(outside, backend) for backend in OF[mode]}
    secrets = {path: path.read_text() for path in (outside / "sibling").iterdir()}
    tasks = [
        {
            "backend": backend,
            "approval_mode": "none",
            "sandbox_mode": mode,
            "workdir": str(folder),
            "timeout_seconds": 120,
            "prompt": prompt(
                f"{backend}-{mode}",
                *(WORK if mode == "workspace" else ()),  # first: an attack breaks its .gitconfig
                shell(attack(outside, folder, mode)),
                write(str(outside / "sibling/by_its_own_tool"), "planted\n"),
                write(str(outside / "home" / SETTINGS[backend]), "planted\n"),
                shell("nohup setsid sleep 600 >/dev/null 2>&1 & echo left"),
            ),
        }
        for backend, folder in folders.items()
    ]
    _, document = run(outside, tasks)
    for backend, result in zip(folders, document["results"], strict=True):
        assert result.get("error") is None, backend
        assert result["output"] == fakeapi.answer_to(f"{backend}-{mode}")
        assert result["sandbox"] == {"mode": mode, "by": "bwrap+landlock", "gaps": []}
    tried = {
        fakeapi.backend_of(request["path"]): found
        for request in asked(outside)
        if (found := attempts(request["tool_results"]))
    }
    assert tried.keys() == folders.keys()
    for found in tried.values():
        assert set(found) == {attempt.__name__ for attempt in escapes.ATTEMPTS}
        assert {name: how for name, how in found.items() if how is not None} == {}
    assert {path: path.read_text() for path in (outside / "sibling").iterdir()} == secrets
    for settings in SETTINGS.values():
        assert "planted" not in (outside / "home" / settings).read_text()
    for folder in folders.values():
        assert not (folder / ".git/hooks/pre-commit").exists()
        has_worked = did_work(folder)
        assert has_worked == (mode == "workspace"), folder


def did_work(folder: Path) -> bool:
    """Whether all of WORK came of a task in this checkout; False where none of it did."""
    log = ["git", "log", "--oneline"]
    found = {
        (folder / "made.txt").exists() and (folder / "made.txt").read_text() == "a line\n",
        (folder / "kept").read_text() == "one\nthree\n",
        subprocess.run(log, cwd=folder, capture_output=True, check=False).stdout != b"",
    }
    assert len(found) == 1, folder
    return found.pop()


def attempts(results: list[str]) -> dict[str, str | None]:
    """Find what `escapes.py` printed among the results of tools."""
    for result in results:
        text = result.encode().decode("unicode_escape") if '\\"' in result else result
        start = text.find('{"write_outside"')
        if start >= 0:
            return dict(json.JSONDecoder().raw_decode(text[start:])[0])
    return {}


def test_an_mcp_server_of_the_user_works(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "server.py").write_text(Path(mcp_server.__file__).read_text())
    (tmp_path / "home").mkdir()
    server = {"command": sys.executable, "args": ["-I", "-S", str(tools / "server.py")]}
    (tmp_path / "home/.claude.json").write_text(json.dumps({"mcpServers": {"notes": server}}))
    config = tmp_path / "config.yaml"
    config.write_text(f"backends: {{claude: {{paths: ['{tools}']}}}}\n")
    task = {
        "backend": "claude",
        "approval_mode": "none",
        "sandbox_mode": "workspace",
        "timeout_seconds": 60,
        "prompt": prompt("mcp", tool("mcp__notes__say", text="hello")),
    }
    _, document = run(tmp_path, [task], "--config", str(config))
    (result,) = document["results"]
    assert result.get("error") is None
    assert result["sandbox"]["by"] == "bwrap+landlock"
    assert result["acted"] is True  # for all that is known of a tool of somebody's server
    said = [text for request in asked(tmp_path) for text in request["tool_results"]]
    assert any("the server says hello" in text for text in said)
