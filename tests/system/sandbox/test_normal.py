"""What agents do all day works in a workspace, by each mechanism, as root and not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.sandbox.arena import MECHANISMS, USERS, Arena, arena

pytestmark = pytest.mark.timeout(300)

PYTEST = str(Path(sys.executable).with_name("pytest"))

WORK = {
    "edit": "echo more >> kept; mkdir -p a/b; mv kept a/b/; cat a/b/kept",
    "git": "git add -A; git commit -qm first; git checkout -qb other; git log --oneline | wc -l",
    "compiler": "echo 'int main(void) { return 7; }' > m.c; cc -o m m.c; ./m; echo $?",
    "npm": (
        "mkdir local app; cd local; npm init -y >/dev/null; cd ../app; echo '{}' > package.json;"
        "npm install --offline --no-audit ../local >/dev/null;"
        "test -f node_modules/local/package.json && echo installed"
    ),
    "temporary": "f=$(mktemp); d=$(mktemp -d); echo t > $f; cp $f $d/; cat $d/*",
    "socket": (
        "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.bind('own.sock'); "
        "s.listen(); c = socket.socket(socket.AF_UNIX); c.connect('own.sock'); print('met')\""
    ),
    "server": (
        "printf 'import sys\\nfor line in sys.stdin: print(line.upper(), flush=True)' > server.py;"
        "echo hello | python3 server.py"
    ),
}
"""Shell commands, and below what they print."""
PRINTED = {
    "edit": "kept\nmore",
    "git": "1",
    "compiler": "7",
    "npm": "installed",
    "temporary": "t",
    "socket": "met",
    "server": "HELLO",
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_work_that_agents_do(mechanism: str, user: int) -> None:
    with arena(user, mechanism) as here:
        folders = {name: own_checkout(here, name) for name in WORK}
        tasks = [
            {"prompt": command, "workdir": str(folders[name]), "sandbox_mode": "workspace"}
            for name, command in WORK.items()
        ]
        results = here.run(*tasks)
        assert [r.get("error") for r in results] == [None] * len(WORK)
        printed = {name: r["output"].strip() for name, r in zip(WORK, results, strict=True)}
        assert printed == PRINTED
        for folder in folders.values():
            assert {path.stat().st_uid for path in folder.rglob("*")} == {user}


def own_checkout(here: Arena, name: str) -> Path:
    """Give a task a checkout of its own."""
    folder = here.base / f"work-{name}"
    shutil.copytree(here.work, folder)
    subprocess.run(["chown", "-R", f"{here.user}:{here.user}", str(folder)], check=True)
    return folder


def test_a_virtual_environments_own_pytest() -> None:
    with arena(0, "bwrap+landlock") as here:
        (here.work / "test_x.py").write_text(
            "def test_x(tmp_path):\n    assert tmp_path.exists()\n"
        )
        command = f"{PYTEST} -q -p no:cacheprovider test_x.py"
        (result,) = here.run({"prompt": command, "sandbox_mode": "workspace"})
        assert "1 passed" in result["output"], result


def test_commits_in_a_linked_worktree() -> None:
    with arena(0, "bwrap+landlock") as here:
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
        commit = [*git, "commit", "-q", "--allow-empty", "-m", "x"]
        subprocess.run(commit, cwd=here.work, check=True)
        tree = here.base / "tree"
        subprocess.run([*git, "worktree", "add", "-q", str(tree)], cwd=here.work, check=True)
        command = (
            "echo x > new; git add -A; git commit -qm second && git log --oneline | wc -l; "
            "echo evil > $(git rev-parse --git-common-dir)/hooks/pre-commit || "
            "echo / > $(git rev-parse --git-dir)/commondir || rm .git || echo held"
        )
        (result,) = here.run({"prompt": command, "workdir": str(tree), "sandbox_mode": "workspace"})
        assert result["output"].split() == ["2", "held"]
