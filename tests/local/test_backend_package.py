"""The backend of docs/guides/backends.md, installed as a package of its own, run by local mode."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests import harness

PAGE = harness.ROOT / "docs" / "guides" / "backends.md"
FAKE_LLM = f"""#!{sys.executable}
import sys
if sys.argv[1:2] == ["--version"]:
    print("llm, version 0.36")
elif "nope" in sys.argv:
    sys.exit("Error: 'Unknown model: nope'")
else:
    print(sys.stdin.read().upper(), sys.argv[1:])
    print("Token usage: 1,003 input, 13 output", file=sys.stderr)
"""
"""What llm 0.36 does with its `echo` model and with an unknown one."""


def block(title: str) -> str:
    found = re.search(
        rf'^```\w+ title="{title}"\n(.*?)^```$', PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return found[1]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A path with the page's package on it, as an installer leaves it, and a program `llm`."""
    project = tomllib.loads(block("pyproject.toml"))["project"]
    site, programs = tmp_path / "site", tmp_path / "bin"
    metadata = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (site / "clinvk_llm.py").write_text(block("clinvk_llm.py"))
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project["entry-points"].items()
    (metadata / "entry_points.txt").write_text(
        "".join(f"[{g}]\n{name} = {value}\n" for g, of in groups for name, value in of.items())
    )
    programs.mkdir()
    (programs / "llm").write_text(FAKE_LLM)
    (programs / "llm").chmod(0o755)
    path = os.environ.get("PYTHONPATH")
    return {
        "PYTHONPATH": os.pathsep.join([str(site), *([path] if path else [str(harness.ROOT)])]),
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
    }


def test_the_page_s_backend_runs(temporary: Path, environment: dict[str, str]) -> None:
    tasks: list[dict[str, Any]] = [
        {"backend": "llm", "prompt": "größer", "model": "m", "system_prompt": "s", "max_tokens": 9},
        {"backend": "llm", "prompt": "x", "model": "nope"},
    ]
    done = harness.clinvk("parallel", "--json", stdin=json.dumps(tasks), env=environment)
    good, bad = json.loads(done.stdout)["results"]
    assert good["output"] == (
        "GRÖSSER ['prompt', '--no-stream', '--no-log', '--usage', '--model', 'm', '--system', 's']"
    )
    assert good["usage"] == {"input_tokens": 1003, "output_tokens": 13, "total_tokens": 1016}
    assert good["warnings"] == [
        "llm: max_tokens is not supported, ignored (its name differs per model)"
    ]
    assert (bad["error"], bad["error_kind"]) == ("'Unknown model: nope'", "invalid")
    assert done.status == 1
