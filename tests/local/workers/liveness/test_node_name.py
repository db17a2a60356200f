"""Names of workers: one for each process of a machine, free again when its process has ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workers.liveness import node_name

RESERVE = """
import sys
from workers.liveness import node_name
print(node_name.reserve(*sys.argv[1:]), flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["linux", "darwin"])
def broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A broker of this test's own; both ways to reserve a name."""
    if sys.platform != request.param:
        monkeypatch.setattr("sys.platform", request.param)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return f"redis+socket://{tmp_path}/server.sock"


def test_a_name_that_is_taken_gets_the_next_number(
    broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = [node_name.reserve("clinvk@h", broker) for _ in range(3)]
    assert names == ["clinvk@h", "clinvk-2@h", "clinvk-3@h"]
    assert "another worker of this machine is clinvk@h: this one is clinvk-2@h" in caplog.text
    assert node_name.reserve("other@h", broker) == "other@h"


def test_workers_of_another_broker_do_not_count(broker: str) -> None:
    assert node_name.reserve("clinvk@h", broker) == "clinvk@h"
    assert node_name.reserve("clinvk@h", broker + "2") == "clinvk@h"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@localhost/0",
        "redis://127.0.0.1:6379",
        "rediss://user:secret@[::1]:6379/0",
        "redis://LOCALHOST/0?health_check_interval=3",
    ],
)
def test_the_spelling_of_the_broker_makes_no_difference(
    url: str, broker: str, request: pytest.FixtureRequest
) -> None:
    name = f"{abs(hash(request.node.nodeid))}@h"
    assert node_name.reserve(name, "redis://localhost:6379/0") == name
    assert node_name.reserve(name, url) == name.replace("@", "-2@")


def test_the_name_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    broker = f"redis+socket://{tmp_path}/server.sock"
    process = subprocess.Popen(
        [sys.executable, "-c", RESERVE, "clinvk@h", broker],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "clinvk@h\n"
    process.kill()
    process.communicate()
    assert node_name.reserve("clinvk@h", broker) == "clinvk@h"
