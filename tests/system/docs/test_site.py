"""The documentation builds into a site, strictly, and the site asks nothing of other hosts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.docs import pages
from tests.system.servers.install import SUPPORTED
from tools import commands, picture

LOADED = re.compile(
    r"""<(?:script|img|iframe)[^>]*\ssrc="(https?:[^"]+)"|<link[^>]*\shref="(https?:[^"]+)\""""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in a copy, so that nothing is written into the checkout."""
    copy = tmp_path_factory.mktemp("site")
    shutil.copytree(pages.ROOT / "docs", copy / "docs")
    shutil.copy(pages.ROOT / "zensical.toml", copy)
    done = subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--strict"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return copy / "build" / "site"


def test_every_page_is_in_the_site(site: Path) -> None:
    for path in sorted((pages.ROOT / "docs").rglob("*.md")):
        relative = path.relative_to(pages.ROOT / "docs").with_suffix("")
        folder = relative.parent if relative.name == "index" else relative
        assert (site / folder / "index.html").exists(), relative


def test_every_page_is_in_the_navigation() -> None:
    listed = (pages.ROOT / "zensical.toml").read_text()
    for path in sorted((pages.ROOT / "docs").rglob("*.md")):
        assert f'"{path.relative_to(pages.ROOT / "docs")}"' in listed


def test_nothing_is_loaded_from_other_hosts(site: Path) -> None:
    for path in site.rglob("*.html"):
        found = [a or b for a, b in LOADED.findall(path.read_text())]
        assert found == [], path


def test_the_reference_of_commands_is_current() -> None:
    text = commands.REFERENCE.read_text(encoding="utf-8")
    assert text == commands.reference(), "run `python -m tools.commands`"


def test_the_tested_servers_are_listed() -> None:
    text = (pages.ROOT / "docs" / "reference" / "servers.md").read_text()
    for server in SUPPORTED:
        assert f"| {server.name} |" in text, server


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_links_of_the_repository_s_pages_lead_to_files(name: str) -> None:
    text = (pages.ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (pages.ROOT / target).exists(), target


def test_the_architecture_lists_every_package() -> None:
    text = (pages.ROOT / "ARCHITECTURE.md").read_text()
    for path in (pages.ROOT / "clinvk").iterdir():
        if (path / "__init__.py").exists():
            assert f"| `clinvk/{path.name}` |" in text, path


NEW_FILES = {"clinvk/commands/retry.py"}
"""Files that CONTRIBUTING.md names as those that a change would add."""


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_are_named_exist(name: str) -> None:
    text = (pages.ROOT / name).read_text()
    named = set(re.findall(r"`((?:clinvk|workers|tests|docs)/[\w/.-]+)`", text))
    assert len(named) > 10
    assert {file for file in named - NEW_FILES if not (pages.ROOT / file).exists()} == set()


def test_the_test_command_is_the_same_everywhere() -> None:
    """`.ci/run` takes it from README.md, where it must stand once."""
    found = {
        name: re.findall(
            r"^python3 -m venv .* pytest$", (pages.ROOT / name).read_text(), re.MULTILINE
        )
        for name in ("README.md", "CONTRIBUTING.md")
    }
    assert len(found["README.md"]) == 1
    assert found["README.md"] == found["CONTRIBUTING.md"]


def test_the_picture_refers_to_nothing_outside() -> None:
    text = picture.PICTURE.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'<>]+", text)) == {"http://www.w3.org/2000/svg"}


def test_the_picture_can_be_recorded() -> None:
    text = re.sub(r"&#160;", " ", picture.picture(picture.record()))
    assert f"{picture.RUNNING} running" in text
    assert "FAILED: API Error: 429" in text
