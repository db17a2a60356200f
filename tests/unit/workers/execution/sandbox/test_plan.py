"""What one command may see and change, without a look at any file."""

from __future__ import annotations

import pytest

from tests.unit.workers.execution.sandbox.plans import PRIVATE, plan
from workers.execution.sandbox.plan import CliFiles, is_below, workdir_problem

CLI = CliFiles(
    settings=("/home/u/.codex/config.toml", "/etc/codex"),
    credentials=("/srv/codex/auth.json",),
    copied=("/home/u/.claude.json",),
    directories=(("CODEX_HOME", "/srv/codex"), ("OTHER", "/home/u/.other")),
)


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/home/u/.codex/config.toml", f"{PRIVATE.home}/.codex/config.toml"),
        ("/home/u", PRIVATE.home),
        ("/home/user2", None),
        ("/srv/codex/auth.json", f"{PRIVATE.state(0)}/auth.json"),
        ("/home/u/.other/x", f"{PRIVATE.home}/.other/x"),
        ("/etc/codex", None),
    ],
)
def test_where_the_files_of_a_cli_are_its_own(path: str, own: str | None) -> None:
    assert plan(cli=CLI).own_place(path) == own


@pytest.mark.parametrize(
    "workdir",
    [
        *("/", "/home", "/home/u", "/tmp", "/tmp/clinvk-tasks-x", "/etc/x", "/run/user/1", "/usr"),
        *("/home/u/.ssh", "/home/u/.config/x", "/home/u/.local/bin"),
        *("/home/u/.codex", "/home/u/.codex/x", "/srv", "/srv/codex", "/proc/1/cwd", "/dev/shm"),
    ],
)
def test_directories_that_no_task_gets(workdir: str) -> None:
    assert workdir_problem(workdir, "/home/u", PRIVATE.path, CLI)


@pytest.mark.parametrize(
    "workdir", ["/home/u/src/x", "/home/u/src/.x", "/tmp/work", "/workspace", "/srv2", "/opt/x"]
)
def test_directories_that_a_task_may_have(workdir: str) -> None:
    assert workdir_problem(workdir, "/home/u", PRIVATE.path, CLI) is None


def test_below_is_a_matter_of_whole_names() -> None:
    assert is_below("/a/b", "/a")
    assert is_below("/a", "/a")
    assert is_below("/a", "/")
    assert not is_below("/ab", "/a")
