"""What a command loads, and what it must not: its start is most of a short command's time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"celery", "kombu", "redis", "pydantic", "rich.console", "yaml", "psutil"}


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["--version"], set()),
        (["parallel", "--help"], set()),
        (["parallel", "--max-parallel", "x"], set()),
        (["parallel", "--file", "no-such-file"], {"pydantic"}),
    ],
)
def test_what_needs_no_fleet_does_not_load_one(arguments: list[str], allowed: set[str]) -> None:
    code = (
        "import json, sys\n"
        "from clinvk.cli.main import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert loaded & HEAVY <= allowed
