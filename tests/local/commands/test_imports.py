"""What a command loads, and what it must not: its start is most of a short command's time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clinvk.store.store import Store

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


CLIENT_COMMANDS = """
import json, os, sys
from clinvk.cli.main import main

def end(status):
    raise SystemExit(status)

os._exit = end  # how a command ends once its output is written
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, arguments
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.mark.usefixtures("temporary")
def test_a_local_run_loads_no_celery_in_its_client(tmp_path: Path) -> None:
    """Its supervisor has Celery, and makes the message; together both would take twice as long."""
    config = tmp_path / "config.yaml"
    config.write_text("backends: {noop: {command: [/bin/true]}}")
    done = subprocess.run(
        [
            *(sys.executable, "-c", CLIENT_COMMANDS),
            json.dumps([["parallel", "-q", "--config", str(config)]]),
        ],
        input=json.dumps([{"backend": "echo", "prompt": "x"}]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert loaded & {"celery", "kombu", "redis"} == {"redis"}


def test_a_client_that_submits_or_lists_loads_nothing_of_a_worker(
    store: Store, broker_url: str
) -> None:
    """No executor, no control of processes, no policy, no liveness: all of that is `workers`."""
    store.announce("w", {"slots": 1, "queues": ["clinvk.echo"]})
    commands = [["parallel", "--detach"], ["runs"], ["workers"], ["queues"]]
    commands = [[*command, "--broker", broker_url] for command in commands]
    done = subprocess.run(
        [sys.executable, "-c", CLIENT_COMMANDS, json.dumps(commands)],
        input=json.dumps({"tasks": [{"backend": "echo", "prompt": "x"}]}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stderr.splitlines()[-1])
    assert "clinvk.runs.celery_client" in loaded
    assert [name for name in loaded if name.partition(".")[0] == "workers"] == []
