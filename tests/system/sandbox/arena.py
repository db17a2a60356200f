"""The world that sandboxed tasks must not reach, and tasks that run in it as some user."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from tests.harness import ROOT

MECHANISMS = ("bwrap+landlock", "bwrap", "landlock")
USERS = (0, 1000)
ESCAPES = Path(__file__).with_name("escapes.py")
SECRET = "hunter2-of-the-broker"
SECONDS = 100.0


@cache
def python_of(user: int) -> str:
    """Return a Python that a user can run: what runs the tests may be in a home of root's."""
    for program in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError):
            subprocess.run(
                [program, "-I", "-S", "-c", "import ctypes"],
                user=user,
                group=user,
                extra_groups=[],
                capture_output=True,
                check=True,
            )
            return program
    raise AssertionError(f"install Python for all users: user {user} can run none")


@dataclass
class Arena:
    """A home with secrets, a sibling's directory, a server, and a checkout to work in."""

    base: Path
    user: int
    mechanism: str

    @property
    def home(self) -> Path:
        return self.base / "home"

    @property
    def work(self) -> Path:
        return self.base / "work"

    @property
    def sibling(self) -> Path:
        return self.base / "sibling"

    @property
    def marker(self) -> str:
        """A word that only processes and files of this arena have."""
        return self.base.name

    def world(self, mode: str) -> dict[str, Any]:
        """What `escapes.py` is told."""
        return {
            "home": str(self.home),
            "sibling": str(self.sibling),
            "spill": str(self.home / ".clinvk/outputs/other.log"),
            "workdir": str(self.work),
            "socket": str(self.base / "server/server.sock"),
            "abstract": self.marker,
            "secret": SECRET,
            "marker": self.marker,
            "is_writable": mode == "workspace",
            "has_namespace": self.mechanism != "landlock",
        }

    def run(self, *tasks: dict[str, Any], **config: Any) -> list[dict[str, Any]]:
        """Run tasks at once, as a worker of this arena's user; returns their results."""
        defaults = {
            "spill_dir": str(self.home / ".clinvk/outputs"),
            "backends": {
                "sh": {"command": ["sh"]},
                "escapes": {
                    "command": [python_of(self.user), "-I", "-S", str(self.base / ESCAPES.name)]
                },
            },
        }
        order = {
            "mechanism": self.mechanism,
            "user": self.user,
            "python": python_of(self.user),
            "config": defaults | config,
            "tasks": [{"workdir": str(self.work), "backend": "sh", **task} for task in tasks],
        }
        done = subprocess.run(
            [sys.executable, "-m", "tests.system.sandbox.runner"],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=self.environment(),
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        results: list[dict[str, Any]] = json.loads(done.stdout)
        return results

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.home),
            "TMPDIR": str(self.base / "tmp"),
            "LANG": "C.UTF-8",
            "CLINVK_BROKER_URL": f"redis://:{SECRET}@localhost/0",
        }

    def left(self) -> list[psutil.Process]:
        """The processes that a task of this arena left running."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(self.marker in argument for argument in process.cmdline()):
                    found.append(process)
        return found


@contextlib.contextmanager
def arena(user: int, mechanism: str) -> Iterator[Arena]:
    """Make an arena that belongs to a user, and remove it."""
    base = Path(tempfile.mkdtemp(prefix="arena-", dir="/tmp"))
    found = Arena(base, user, mechanism)
    try:
        for name in ("home/.ssh", "home/.clinvk/outputs", "home/.codex", "work", "sibling", "tmp"):
            (base / name).mkdir(parents=True)
        (base / "server").mkdir(mode=0o700)
        (found.home / ".ssh/id_ed25519").write_text("key\n")
        (found.home / ".clinvk/config.yaml").write_text(f"broker_url: redis://:{SECRET}@h/0\n")
        (found.home / ".clinvk/outputs/other.log").write_text("of another task\n")
        (found.home / ".codex/config.toml").write_text("model = 'x'\n")
        (found.home / ".gitconfig").write_text("[user]\n\tname = a\n\temail = a@example.com\n")
        (found.sibling / "secret").write_text("of a sibling\n")
        shutil.copy(ESCAPES, base)
        (found.work / "kept").write_text("kept\n")
        subprocess.run(["git", "init", "-q"], cwd=found.work, check=True)
        for path in (base, *base.rglob("*")):
            os.chown(path, user, user)
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as abstract:
            server.bind(str(base / "server/server.sock"))
            os.chown(base / "server/server.sock", user, user)
            abstract.bind("\0" + found.marker)
            server.listen()
            abstract.listen()
            yield found
    finally:
        for process in found.left():
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(base)
