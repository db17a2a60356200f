"""What a program needs to be started, wherever it is installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.execution.sandbox.programs import readable


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def link(path: Path, target: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def found(named: Path | str, home: Path, *search: Path) -> set[str]:
    """Return what is readable of the home, beneath it."""
    paths = readable([str(named)], os.pathsep.join([*map(str, search), "/usr/bin"]), str(home))
    return {os.path.relpath(path, home) for path in paths if path.startswith(str(home))}


def test_nvm(home: Path) -> None:
    version = home / ".nvm/versions/node/v20"
    (version / "lib").mkdir(parents=True)
    program(version / "bin/node", "ELF")
    program(version / "lib/node_modules/cli/cli.js", "#!/usr/bin/env -S node --flag\n")
    link(version / "bin/cli", "../lib/node_modules/cli/cli.js")
    assert ".nvm/versions/node/v20" in found("cli", home, version / "bin")


def test_a_local_npm_installation(home: Path) -> None:
    modules = home / "tools/node_modules"
    program(modules / "@a/cli/cli.js", "#!/usr/bin/env node\n")
    link(modules / ".bin/cli", "../@a/cli/cli.js")
    assert "tools/node_modules" in found(modules / ".bin/cli", home)


def test_a_virtual_environment_and_its_python(home: Path) -> None:
    base = home / ".pyenv/versions/3.12"
    (base / "lib").mkdir(parents=True)
    program(base / "bin/python3.12", "ELF")
    venv = home / "venv"
    link(venv / "bin/python", str(base / "bin/python3.12"))
    (venv / "pyvenv.cfg").write_text(f"home = {base}/bin\n")
    cli = program(venv / "bin/cli", f"#!{venv}/bin/python\n")
    assert {"venv", ".pyenv/versions/3.12"} <= found(cli, home)
    assert {"venv", ".pyenv/versions/3.12"} <= found("/bin/true", home, venv / "bin")


def test_shims_need_all_that_they_choose_from(home: Path) -> None:
    program(home / ".pyenv/shims/cli", "#!/usr/bin/env bash\n")
    assert ".pyenv" in found("cli", home, home / ".pyenv/shims")


def test_a_single_file_in_local_bin_opens_nothing_else(home: Path) -> None:
    (home / ".local/lib").mkdir(parents=True)
    program(home / ".local/share/claude/versions/2.1", "ELF")
    link(home / ".local/bin/claude", "../share/claude/versions/2.1")
    (home / ".local/share/keyrings").mkdir()
    assert found("claude", home, home / ".local/bin") == {
        *(".local/bin", ".local/bin/claude", ".local/share/claude/versions/2.1", ".local/lib")
    }


def test_neither_a_home_nor_what_contains_it_is_ever_readable(home: Path) -> None:
    (home / "lib").mkdir()
    program(home / "bin/cli")
    paths = readable([str(home / "bin/cli")], f"{home}:{home.parent}:{home}/bin:/:/tmp", str(home))
    assert str(home / "bin") in paths
    assert not {str(home), str(home.parent), "/", "/tmp"} & set(paths)


def test_a_script_comes_alone(home: Path) -> None:
    script = program(home / "src/run.sh")
    (home / "src/secret").touch()
    assert found(script, home) == {"src/run.sh"}


def test_links_that_go_in_a_circle_end(home: Path) -> None:
    link(home / "bin/a", "b")
    link(home / "bin/b", "a")
    assert found(home / "bin/a", home) == set()
